from algorithms.page import render_page


def test_a_page_is_escaped_holds_the_style_and_asks_for_no_file():
    html = render_page(
        "inspection/report.html", title="<a & b>", facts={}, problems=[], rewards=[], histograms=[], sections={}
    )
    assert "<title>&lt;a &amp; b&gt;</title>" in html and "--paper" in html and "src=" not in html
