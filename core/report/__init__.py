"""What is shown of images that were drawn: sheets, plots, tables, pages, the drawing of a scene, a bar of progress."""
