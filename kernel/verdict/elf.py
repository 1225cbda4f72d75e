# SPDX-License-Identifier: GPL-2.0-only
"""A relocatable x86-64 ELF object: its functions, who refers to whom, and its stack frames.

Knows the file format and nothing about what is allowed in an object; that is `rules.py`.
"""

import struct
import subprocess
from bisect import bisect_right
from collections import defaultdict, namedtuple

SHT_SYMTAB, SHT_RELA = 2, 4
SHF_ALLOC, SHF_EXECINSTR = 0x2, 0x4
STT_FUNC, STT_SECTION = 2, 3
STB_LOCAL = 0
SHN_UNDEF, SHN_LORESERVE = 0, 0xFF00

# R_X86_64_* by number, those of the psABI that assemblers emit.
RELOCATION_NAMES = {
    1: "64", 2: "PC32", 4: "PLT32", 9: "GOTPCREL", 10: "32", 11: "32S", 24: "PC64",
    26: "GOTPC32", 41: "GOTPCRELX", 42: "REX_GOTPCRELX",
}

Section = namedtuple("Section", "index name type flags offset size link info")
Symbol = namedtuple("Symbol", "name kind binding section value size")
# `source` and `target` are nodes: a function's symbol, another symbol, or "[section]" for data
# without a symbol of its own. `section` and `offset` are where the reference stands.
Reference = namedtuple("Reference", "source target type section offset")


class Object:
    """One parsed object. `functions` maps a defined function to its size in bytes, `frames` a
    function to its stack frame in bytes, `undefined` is the set of symbols asked from outside."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.bytes = file.read()
        if self.bytes[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path}: not a 64-bit little-endian ELF object")
        self._read_sections()
        self._read_symbols()
        self._read_references()
        self._read_frames()

    def _text(self, table, offset):
        start = table.offset + offset
        return self.bytes[start:self.bytes.index(b"\0", start)].decode()

    def _read_sections(self):
        (start,) = struct.unpack_from("<Q", self.bytes, 0x28)
        _, count, names = struct.unpack_from("<HHH", self.bytes, 0x3A)
        if count == 0:  # more sections than fit the header: the count is in section zero
            (count,) = struct.unpack_from("<Q", self.bytes, start + 0x20)
        raw = [struct.unpack_from("<IIQQQQIIQQ", self.bytes, start + 64 * i) for i in range(count)]
        if names == 0xFFFF:
            names = raw[0][6]
        self.sections = [Section(i, r[0], r[1], r[2], r[4], r[5], r[6], r[7])
                         for i, r in enumerate(raw)]
        table = self.sections[names]
        self.sections = [s._replace(name=self._text(table, s.name)) for s in self.sections]

    def _read_symbols(self):
        table = next(s for s in self.sections if s.type == SHT_SYMTAB)
        strings = self.sections[table.link]
        wide = next((s for s in self.sections if s.name == ".symtab_shndx"), None)
        self.symbols = []
        at = range(table.offset, table.offset + table.size, 24)
        for number, offset in enumerate(at):
            name, info, _, section, value, size = struct.unpack_from("<IBBHQQ", self.bytes, offset)
            if section == 0xFFFF and wide:
                (section,) = struct.unpack_from("<I", self.bytes, wide.offset + 4 * number)
            self.symbols.append(Symbol(self._text(strings, name), info & 15, info >> 4,
                                       section, value, size))
        self.functions, self.roots, self.undefined = {}, set(), set()
        placed = defaultdict(list)
        for symbol in self.symbols:
            if symbol.kind == STT_SECTION or not symbol.name:
                continue
            if symbol.section == SHN_UNDEF:
                self.undefined.add(symbol.name)
            elif symbol.section < len(self.sections):
                placed[symbol.section].append((symbol.value, symbol.size, symbol.name))
                if symbol.kind == STT_FUNC:
                    self.functions[symbol.name] = symbol.size
                    if symbol.binding != STB_LOCAL:
                        self.roots.add(symbol.name)
        self._placed = {section: sorted(symbols) for section, symbols in placed.items()}
        # An undefined symbol counts only when something refers to it.
        self._declared, self.undefined = self.undefined, set()

    def _node(self, section, offset):
        """The symbol that covers `offset` of `section`, else the section itself."""
        symbols = self._placed.get(section, [])
        at = bisect_right(symbols, (offset, float("inf"), "")) - 1
        if at >= 0 and (offset < symbols[at][0] + max(symbols[at][1], 1)):
            return symbols[at][2]
        return f"[{self.sections[section].name}]"

    def _target(self, symbol, kind, addend):
        if symbol.kind != STT_SECTION:
            return symbol.name or f"[{self.sections[symbol.section].name}]"
        # A PC-relative field counts from the end of its own four bytes.
        return self._node(symbol.section, addend + 4 if kind in (2, 4) else addend)

    def _relocations(self, keep):
        for table in self.sections:
            if table.type != SHT_RELA or not keep(self.sections[table.info]):
                continue
            data = self.bytes[table.offset:table.offset + table.size]
            for offset, info, addend in struct.iter_unpack("<QQq", data):
                symbol = self.symbols[info >> 32]
                yield self.sections[table.info], offset, symbol, info & 0xFFFFFFFF, addend

    def _read_references(self):
        self.references = []
        for section, offset, symbol, kind, addend in self._relocations(
                lambda s: s.flags & SHF_ALLOC and s.name != ".eh_frame"):
            target = self._target(symbol, kind, addend)
            if symbol.section == SHN_UNDEF and target in self._declared:
                self.undefined.add(target)
            self.references.append(Reference(self._node(section.index, offset), target,
                                             RELOCATION_NAMES.get(kind, str(kind)),
                                             section, offset))

    def _read_frames(self):
        """`.stack_sizes`: for each function its address (relocated) and a ULEB128 size."""
        self.frames = {}
        for section, offset, symbol, kind, addend in self._relocations(
                lambda s: s.name == ".stack_sizes"):
            size, shift, at = 0, 0, section.offset + offset + 8
            while True:
                byte = self.bytes[at]
                size |= (byte & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if byte < 0x80:
                    break
            name = symbol.name if symbol.kind != STT_SECTION else self._node(symbol.section, addend)
            self.frames[name] = size

    def text_bytes(self):
        """Bytes of machine code."""
        return sum(s.size for s in self.sections if s.flags & SHF_EXECINSTR)

    def disassembly(self):
        """Yields (function, offset, mnemonic, operands) for every instruction, as objdump sees it."""
        command = ["objdump", "-d", "-w", "--no-show-raw-insn", self.path]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        function = ""
        for line in output.splitlines():
            if line.startswith(" ") and ":\t" in line:
                address, _, instruction = line.partition(":\t")
                mnemonic, _, operands = instruction.strip().partition(" ")
                yield function, int(address, 16), mnemonic, operands.strip()
            elif line.endswith(">:"):
                function = line[line.index("<") + 1:-2]

    def source_lines(self, section, offsets):
        """For each offset into `section` the chain of "function at file:line", innermost first."""
        command = ["addr2line", "-e", self.path, "-j", section.name, "-a", "-f", "-i", "-C"]
        command += [hex(offset) for offset in offsets]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        chains, lines = [], iter(done.stdout.splitlines())
        for line in lines:
            if line.startswith("0x"):
                chains.append([])
            elif chains:
                chains[-1].append((line, next(lines, "??:0").split(" (")[0]))
        return dict(zip(offsets, chains))


def demangled(names):
    """Readable names for mangled ones, as a dictionary."""
    names = list(names)
    done = subprocess.run(["c++filt"], input="\n".join(names), stdout=subprocess.PIPE, text=True,
                          check=True)
    return dict(zip(names, done.stdout.splitlines()))
