"""Styles that are drawn, not collected: functions over large renderings of the artwork.

A medium redraws the subject (pixel art, pencil, mosaic), a tone recolours the picture (sepia, thermal), a place puts
something behind the subject (meadow, stripes). So one of each can be applied in turn, and "A and B" has a meaning.
"""
