"""Styles that are drawn, not collected: functions over large renderings of the artwork.

A medium redraws the subject (pixel art, pencil, mosaic), a tone recolours what is there (sepia, thermal), a place puts
something behind it (meadow, stripes). So one of each can be applied after the other, and "A and B" means something.
"""
