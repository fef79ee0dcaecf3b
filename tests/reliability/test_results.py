"""Figures of the suite on the page of the documentation."""

from mmcity.utils.fileio import write_json
from tests.reliability import results


def test_tables_stand_between_their_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    results.keep_results("fuzz", "b", {"read": 1, "refused": 2999, "wrong": 0})
    results.keep_results("fuzz", "a_c", {"read": 4, "refused": 6, "wrong": 0})
    write_json(tmp_path / "faults.json", {"tiles": {"EIO": 3, "wrong": 1}})
    page = tmp_path / "page.md"
    marks = (
        "<!-- faults -->\nold\n<!-- end of faults -->\n<!-- fuzz --><!-- end of fuzz -->\nlast\n"
    )
    page.write_text(f"first\n{marks}")
    results.write_page(page)
    text = page.read_text()
    assert "old" not in text and text.startswith("first\n") and text.endswith("last\n")
    assert "| a c | 4 | 6 | 0 |\n| b | 1 | 2,999 | 0 |\n| all 2 | 5 | 3,005 | 0 |" in text
    assert "| tiles | 3 | 1 |" in text
    results.write_page(page)
    assert page.read_text() == text
