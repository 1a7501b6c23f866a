"""Images in: preprocessing, folders, archives, and the images that need no download."""
