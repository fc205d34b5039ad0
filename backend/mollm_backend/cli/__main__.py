"""`python -m mollm_backend.cli`: the same as `mollm`, where the script is not on the path."""

from mollm_backend.cli import main

if __name__ == "__main__":
    main()
