"""What the tests of pages share: reading their elements with the standard library."""

import re
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "img", "input", "hr"}
_PREFIXES = {"p": 1e-12, "n": 1e-9, "µ": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


class Page(HTMLParser):
    """A page's tags with their attributes, its tables by id, and its text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.tables, self.text, self.open = [], {}, "", []
        self.scripts, self.details = [], 0
        self._table = None
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "table":
            self._table = []
            if "id" in given:
                self.tables[given["id"]] = self._table
        elif tag == "tr" and self._table is not None:
            self._table.append([])
        elif tag in ("td", "th") and self._table is not None:
            self._table[-1].append({"text": "", **given})
        elif tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "table":
            self._table = None

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts[-1] += data
            return
        if self.open[-1:] == ["style"]:
            return
        self.text += data
        if self._table and self._table[-1] and ("td" in self.open or "th" in self.open):
            self._table[-1][-1]["text"] += data

    def cells(self, table):
        """The texts of a table's rows, headings first."""
        return [[cell["text"].strip() for cell in row] for row in self.tables[table]]

    def attributes(self, name):
        """All values of an attribute."""
        return [given[name] for _, given in self.tags if name in given]


def number(text):
    """A spelled number: 29.3 M, 24.9 µJ, 21.4 %, 2.00×."""
    found = re.fullmatch(r"([−+-]?[\d.,]+(?:e[−+-]?\d+)?)\s*(?:([pnµmkMGT]?)(?:J|B)?|%|×|dB)", text.strip())
    assert found, text
    value = float(found[1].replace(",", "").replace("−", "-"))
    return value * _PREFIXES.get(found[2] or "", 1.0) * (0.01 if text.strip().endswith("%") else 1.0)
