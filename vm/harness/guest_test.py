# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Tests of how a command's output is told from what guest/init says."""

import unittest

from harness.guest import Output

MARKER = "marker-0123456789"
BEGIN = f"{MARKER} begin\n".encode()
END = f"{MARKER} end 3\n".encode()


def passed(stream, size):
    """What comes out when a stream comes in pieces of a size, and the status."""
    output = Output(MARKER)
    out = b"".join(output.feed(stream[at:at + size]) for at in range(0, len(stream), size))
    return out, output.status


class Channel(unittest.TestCase):
    """Output, between the markers and byte for byte."""

    def test_output_is_what_is_between_the_markers_however_it_comes(self):
        for text in (b"", b"a", b"text\n", bytes(range(256)) * 3, MARKER.encode() + b"\n",
                     (MARKER + " en").encode(), b"mark" * 9, b"\r\n\r"):
            stream = b"noise" + BEGIN + text + END + b"later"
            for size in (1, 2, 3, 7, 20, len(stream)):
                with self.subTest(text=text, size=size):
                    self.assertEqual(passed(stream, size), (text, 3))

    def test_output_comes_before_the_end(self):
        output = Output(MARKER)
        self.assertEqual(output.feed(BEGIN + b"so far"), b"so far")
        self.assertIsNone(output.status)

    def test_output_of_a_guest_that_dies_is_whole(self):
        output = Output(MARKER)
        text = b"text" + END[:8]
        self.assertEqual(output.feed(BEGIN + text) + output.finish(), text)
        self.assertEqual(Output(MARKER).finish(), b"")

    def test_a_terminal_ends_lines_with_two_characters(self):
        stream = (BEGIN + b"$ " + END).replace(b"\n", b"\r\n")
        self.assertEqual(passed(stream, 4), (b"$ ", 3))


if __name__ == "__main__":
    unittest.main()
