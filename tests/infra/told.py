"""What the template has to agree with and is read from the program itself: which metrics the functions tell CloudWatch of, and with
which dimensions; which topics there are."""
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
NAMED = re.compile(r"(?:(?:counter|gauge|histogram)!|Gauge::(?:new|of))\(\s*\"(stream_[a-z_]+)\"")


def names():
    """Each metric's name with the sets of labels that are its dimensions."""
    emf = (ROOT / "functions/src/emf.rs").read_text()
    dimensions = {name: [re.findall(r'"([a-z_]+)"', labels) for labels in re.findall(r"&\[([^\[\]]*)\]", sets)]
                  for name, sets in re.findall(r'\("(stream_[a-z_]+)", &\[(.*?)\]\)', table(emf, "DIMENSIONS"))}
    logged_only = set(re.findall(r'"(stream_[a-z_]+)"', table(emf, "LOGGED_ONLY")))
    told = set()
    for folder in ("shared/src", "functions/src"):
        for path in sorted((ROOT / folder).rglob("*.rs")):
            if "tests" not in path.stem:
                told.update(NAMED.findall(path.read_text().split("#[cfg(test)]")[0]))
    return {name: dimensions.get(name, [[]]) for name in told - logged_only}


def topics():
    """Every topic's name, without a stage's prefix."""
    return re.findall(r'= "(wildfire-[a-z-]+)" /', (ROOT / "shared/src/record/topic.rs").read_text())


def table(source, name):
    """What stands between the equals sign of a constant and its end."""
    return re.search(rf"pub const {name}:.*?=(.*?);\n", source, re.S)[1]
