# Of interest to the Python package alone, which a server does not have.
BUILD_INFO = {}
PYTHON = "python3"
