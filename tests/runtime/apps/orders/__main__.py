import sys

from runtime import Service

service = Service(__package__, "1.7")

if __name__ == "__main__":
    sys.exit(service.main())
