"""Models, plugins and cases that several tests share."""
