"""The API description, written first, and the page that shows it."""
