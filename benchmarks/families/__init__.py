"""Base models of every family with random weights, and one of them at its true size."""
