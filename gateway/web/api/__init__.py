"""The endpoints of /api/v1, a module for each noun. Each names its permission, asks a part, and shows."""

API = "/api/v1"
