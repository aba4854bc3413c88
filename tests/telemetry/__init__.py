"""What the server tells about itself, and what it reads again."""
