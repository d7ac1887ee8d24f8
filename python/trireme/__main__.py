"""Run the command line: `python -m trireme`."""

from trireme.cli.main import main

if __name__ == "__main__":
    main()
