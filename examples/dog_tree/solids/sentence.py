import pathlib
import sys

dog, tree = (pathlib.Path(name).read_text(encoding="utf-8").strip() for name in sys.argv[1:])
print(f"A {dog} sleeps under a {tree.replace('_', ' ')}.")
