"""How an image was made, kept within its file and beside it. Free of torch."""
