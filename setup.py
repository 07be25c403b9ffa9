"""Hand the metadata of settings.ini to setuptools."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here/"settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]


def lines(key):
    return [o.strip() for o in cfg.get(key, "").splitlines() if o.strip()]


def pinned(): # the versions that were tested together
    text = (here/"constraints.txt").read_text(encoding="utf-8")
    return [o for o in text.splitlines() if o.strip() and not o.startswith("#")]


def version():
    scope = {}
    exec((here/cfg["lib_name"]/"__init__.py").read_text(encoding="utf-8"), scope)
    return scope["__version__"]


statuses = {"1": "1 - Planning", "2": "2 - Pre-Alpha", "3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}
setup(
    version=version(),
    description=cfg["description"],
    long_description=(here/"README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    license=cfg["license"],
    keywords=cfg["keywords"].split(),
    classifiers=[f"Development Status :: {statuses[cfg['status']]}", "Intended Audience :: Science/Research",
                 "Topic :: Scientific/Engineering :: Image Recognition", "Programming Language :: Python :: 3"],
    packages=find_packages(include=[f"{cfg['lib_name']}*"]),
    package_data={cfg["lib_name"]: ["py.typed", "assets/*", "app/*.css"]},
    install_requires=lines("requirements"),
    extras_require={**{o: lines(f"{o}_requirements") for o in ("dev", "imagenet", "predict", "export", "app", "processes", "ray", "track")}, "pinned": pinned()},
    entry_points={"console_scripts": lines("console_scripts"), "nbdev": [f"{cfg['lib_name']} = {cfg['lib_name']}._modidx:d"]},
)
