"""Pictures inside pages: SVG whose colours are the page's own."""
