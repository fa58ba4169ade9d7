"""Texture of the DNA against arithmetic; the table on a few contexts."""

import torch

from examples.studies.dna_texture import PRESETS, RIM, dna_texture, main, sharpen_dna


def grained(amplitude, brightness=0.5, width=40):
    """A square nucleus of a checkerboard of this amplitude, and its labels: brightness and amplitude in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(width), torch.arange(width), indexing="ij")
    dna = brightness + amplitude * (1.0 - 2 * ((x + y) % 2))
    images = torch.zeros(1, 3, width, width)
    images[:, 2] = 2 * dna - 1
    labels = torch.zeros(1, width, width, dtype=torch.int32)
    labels[:, 8:-8, 8:-8] = 1
    return images, labels


def test_texture_is_the_relative_deviation_of_fine_structure():
    for amplitude, brightness in ((0.1, 0.5), (0.2, 0.5), (0.1, 0.25)):
        found = dna_texture(*grained(amplitude, brightness))
        torch.testing.assert_close(found, torch.tensor([amplitude / brightness]), rtol=1e-3, atol=0)


def test_the_edge_of_a_nucleus_is_no_texture():
    images, labels = grained(0.0)
    images[:, 2:] = images[:, 2:].where(labels > 0, -1.0)  # bright and flat on a dark ground
    assert dna_texture(images, labels) < 1e-6
    wider = labels.clone()
    wider[:, 8 - RIM :] = 1  # now the edge is inside
    assert dna_texture(images, wider) > 0.05
    assert dna_texture(images, torch.zeros_like(labels)).isnan()


def test_sharpening_raises_the_texture_of_the_dna_alone():
    images, labels = grained(0.05)
    sharp = sharpen_dna(images)
    assert torch.equal(sharp[:, :2], images[:, :2])
    assert dna_texture(sharp, labels) > 2.5 * dna_texture(images, labels)


def test_the_table_has_a_line_for_each_mechanism_and_the_distance(capsys):
    main(PRESETS["smoke"])
    header, rule, *lines = capsys.readouterr().out.splitlines()
    assert header == "| texture; MoA, judge | real | embedded | embedded, sharpened |"
    assert rule.count("|") == 5 and len(lines) >= 2
    assert lines[-1].startswith("| Fréchet distance |") and all(line.count("|") == 5 for line in lines)
