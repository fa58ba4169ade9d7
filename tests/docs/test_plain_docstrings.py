"""Docstrings on the site read as they stand in the code."""

import pytest
from plain_docstrings import escape, to_rst

DOCSTRING = """|v+ - v|^2 with v_theta* = x_ of `code_`, [r l+ + (1 - r) l-].

A paragraph:

    cellfluxrl train nft   # *not* emphasis
    second_ line

After it.

a: one_
b: two,
    and more_
    of it

Example:
    >>> f(*args_)

Raises:
    ValueError: a_ is `wrong`,
        and more.
"""


def rendered(text: str):
    """The document that docutils makes of a docstring; any warning is an error."""
    docutils = pytest.importorskip("docutils.core", reason="needs the extra `docs`")
    settings = {"halt_level": 1, "report_level": 1}
    return docutils.publish_doctree("\n".join(to_rst(text.splitlines())), settings_overrides=settings)


def test_formulas_code_and_blocks_keep_their_text():
    document = rendered(DOCSTRING)
    first = document[0].astext()
    assert first == "|v+ - v|^2 with v_theta* = x_ of code_, [r l+ + (1 - r) l-]."
    (block,) = [node for node in document.findall() if node.tagname == "literal_block"]
    assert block.astext() == "cellfluxrl train nft   # *not* emphasis\nsecond_ line"
    assert [node.astext() for node in document.findall() if node.tagname == "list_item"] == [
        "a: one_",
        "b: two,\nand more_\nof it",
    ]
    assert [node.astext() for node in document.findall() if node.tagname == "literal"] == ["code_", "wrong"]


def test_columns_in_a_section_stay_columns():
    terms = [
        "Args:",
        "    terms: of these",
        "        A=1      one,",
        "                 or more",
        "        B_=2     two",
    ]
    assert to_rst([*terms, "    last: x_"]) == [
        *terms[:2],
        *("", "        ::", ""),
        *(f"    {row}" for row in terms[2:]),
        *("", "    last: x\\_"),
    ]


def test_sections_stay_as_napoleon_reads_them():
    lines = to_rst(DOCSTRING.splitlines())
    assert lines[lines.index("Raises:") + 1 :] == ["    ValueError: a\\_ is ``wrong``,", "        and more."]
    assert lines[lines.index("Example:") + 1] == "    >>> f(*args_)"
    assert escape("a `b` *c*") == "a ``b`` \\*c\\*"
