"""Files out of a point's image: finds file systems in it and reads them, without any kernel."""
