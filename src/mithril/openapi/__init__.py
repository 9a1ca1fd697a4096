"""The API descriptions of both listeners, and the page that shows them."""
