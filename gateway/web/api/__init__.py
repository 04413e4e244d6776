"""The endpoints of /api/v1, one module for each of their nouns. Each declares its permission, asks a part, and shows."""
