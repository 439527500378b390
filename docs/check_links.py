"""Checks the book without mdBook: every page is in the summary, every relative link leads to a file."""
import pathlib, re, sys

root = pathlib.Path(__file__).parent / "src"
bad = []
listed = {(root / m).resolve() for m in re.findall(r"\]\(([^)#]+\.md)\)", (root / "SUMMARY.md").read_text())}
pages = {p.resolve() for p in root.rglob("*.md") if p.name != "SUMMARY.md"}
bad += [f"{p}: not in SUMMARY.md" for p in sorted(pages - listed)]
for page in sorted(pages | {root / "SUMMARY.md"}):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target and not (page.parent / target).exists():
            bad.append(f"{page.name}: link to {target} leads nowhere")
print("\n".join(bad) or f"{len(pages)} pages, all links lead somewhere")
sys.exit(bool(bad))
