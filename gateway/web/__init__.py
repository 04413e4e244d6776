"""HTTP for people and programs: the operators' API. Endpoints only ask, decide nothing and raise; see app.py."""
