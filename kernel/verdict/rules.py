# SPDX-License-Identifier: GPL-2.0-only
"""What may not be in an object that goes into a kernel, and how an offence is reported.

Each rule returns its offences: for each the function at fault, the source lines that lead there,
and a way from an entry point to it. An empty list is a pass.
"""

import re
from collections import defaultdict, deque, namedtuple

from elf import demangled

FRAME_BYTES_MAX = 1024
# Entry points written in assembly, which have no `.stack_sizes`: a saved register and up to 56
# bytes of alignment.
ASSEMBLY_FRAME_BYTES = {
    "vexfs_simd_detect": 64,
    "vexfs_simd_run": 64,
}

# What the host gives: the kernel's own memory functions, the thunks that its mitigations replace
# indirect branches and returns by, and the functions of the C half of the module.
GIVEN_BY_THE_KERNEL = re.compile(
    r"^(memcpy|memmove|memset|memcmp|__x86_return_thunk|__x86_indirect_thunk_\w+|vexfs_host_\w+)$")

# The panic handler calls this undefined function, so whatever way leads to a panic, under whatever
# name the optimiser leaves it, ends in a reference to it.
PANIC_SYMBOL = "vexfs_panic"
PANICS = re.compile(
    r"\b(rust_begin_unwind|__rustc::rust_\w+|vexfs_panic|core::panicking::|core::panic::|panic_\w+)"
    r"|^(core|alloc)::.*(\bpanic|unwrap_failed|expect_failed|_fail(ed)?\b|len_mismatch)")
ABORTING_ALLOCATION = re.compile(
    r"handle_alloc_error|capacity_overflow|__rust_alloc_error_handler|__rust_no_alloc_shim"
    r"|\b__rg_oom|rdl_oom|alloc::raw_vec::handle_error|do_reserve_and_handle|exchange_malloc"
    r"|::grow_one\b")
SOFT_FLOAT = re.compile(
    r"^(__(add|sub|mul|div|neg|eq|ne|lt|le|gt|ge|unord|cmp)[hsdtx]f[23]|__pow[hsdtx]f2"
    r"|__powi[hsdtx]f2|__fix(uns)?[hsdtx]f[sdt]i|__float(un)?[sdt]i[hsdtx]f"
    r"|__(extend|trunc)\w+f\w*f2|__gnu_[fh]2[fh]_ieee"
    r"|(sqrt|fma|floor|ceil|round|rint|trunc|exp|log|pow|sin|cos|fmin|fmax|fabs|fmod)\w{0,5})$")
FLOATING_REGISTER = re.compile(r"%([xyz]mm\d+|mm[0-7]|st\b|k[0-7])")
X87 = re.compile(r"^f(ld|st|add|sub|mul|div|ild|ist|com|ucom|xch|chs|abs|sqrt)")
# What the kernel's module loader applies (apply_relocate_add of arch/x86).
LOADABLE_RELOCATIONS = {"64", "32", "32S", "PC32", "PLT32", "PC64"}

Offence = namedtuple("Offence", "function what details")


class Inspection:
    """One object under the rules. `floating_point` says whether it is the half that may use it."""

    def __init__(self, obj, floating_point):
        self.object, self.floating_point = obj, floating_point
        for function, size in ASSEMBLY_FRAME_BYTES.items():
            if function in obj.functions:
                obj.frames.setdefault(function, size)
        names = set(obj.functions) | obj.undefined | set(obj.frames)
        for reference in obj.references:
            names.update((reference.source, reference.target))
        self.names = demangled(sorted(names))
        self.by_target, self.by_source = defaultdict(list), defaultdict(list)
        for reference in obj.references:
            self.by_target[reference.target].append(reference)
            self.by_source[reference.source].append(reference)
        self._reach()
        self._disassemble()

    def name(self, symbol):
        """The readable name of a symbol, without the crate hashes."""
        return re.sub(r"\[[0-9a-f]{16}\]", "", self.names.get(symbol, symbol))

    def _reach(self):
        """For every node the node through which an entry point first reaches it."""
        self.reached_from = {root: None for root in sorted(self.object.roots)}
        queue = deque(self.reached_from)
        while queue:
            node = queue.popleft()
            for reference in self.by_source[node]:
                if reference.target not in self.reached_from:
                    self.reached_from[reference.target] = node
                    queue.append(reference.target)

    def _disassemble(self):
        self.float_uses, self.naked_branches = defaultdict(int), defaultdict(int)
        self.calls, self.instructions = defaultdict(set), 0
        self.vector_bytes = 0  # the widest vector register used
        for function, _, mnemonic, operands in self.object.disassembly():
            self.instructions += 1
            registers = FLOATING_REGISTER.findall(operands)
            if registers or X87.match(mnemonic):
                self.float_uses[function] += 1
                for register in registers:
                    width = {"x": 16, "y": 32, "z": 64}.get(register[0], 0)
                    self.vector_bytes = max(self.vector_bytes, width)
            branch = mnemonic in ("call", "jmp")
            if mnemonic.startswith("ret") or (branch and "*" in operands):
                self.naked_branches[function] += 1
            # A call of the function itself is resolved by the assembler and has no relocation.
            if mnemonic == "call" and operands.endswith(f"<{function}>"):
                self.calls[function].add(function)
        for reference in self.object.references:
            if reference.source in self.object.functions and reference.type in ("PLT32", "PC32") \
                    and reference.target in self.object.functions:
                if reference.type == "PLT32":
                    self.calls[reference.source].add(reference.target)

    def way_to(self, node):
        """How an entry point reaches `node`, as one line."""
        way = []
        while node is not None:
            if node in self.object.functions:
                way.append(self.name(node))
            node = self.reached_from.get(node)
        way.reverse()
        if len(way) > 6:
            way = way[:2] + ["..."] + way[-3:]
        return "reached by " + " -> ".join(way)

    def _edges(self, is_bad):
        """An offence for each function that is not bad itself and refers to a symbol that is."""
        sites = defaultdict(list)
        bad = {symbol for symbol in set(self.by_target) | set(self.object.functions)
               if is_bad(symbol)}
        for symbol in sorted(bad):
            for reference in self.by_target[symbol]:
                if reference.source not in bad:
                    sites[reference.source].append(reference)
            if symbol in self.object.functions and not self.by_target[symbol]:
                sites[symbol]  # present, though nothing visible refers to it
        offences = []
        for source, references in sorted(sites.items(), key=lambda item: self.name(item[0])):
            details = []
            if references:
                offsets = sorted({reference.offset for reference in references})
                chains = self.object.source_lines(references[0].section, offsets)
                for reference in references:
                    details.append("calls " + self.name(reference.target))
                    for function, line in chains.get(reference.offset, []):
                        details.append(f"    {line} in {function}")
            details.append(self.way_to(source))
            what = ", ".join(sorted({self.name(r.target) for r in references})) or "is linked"
            offences.append(Offence(self.name(source), what, details))
        return offences

    def panics(self):
        return self._edges(lambda symbol: bool(PANICS.search(self.name(symbol))))

    def aborting_allocations(self):
        return self._edges(lambda symbol: bool(ABORTING_ALLOCATION.search(self.name(symbol))))

    def soft_float(self):
        return self._edges(lambda symbol: bool(SOFT_FLOAT.match(symbol)))

    def undefined(self):
        """Symbols that no kernel gives; what another rule reports already is left to it."""
        return self._edges(lambda symbol: symbol in self.object.undefined
                           and not GIVEN_BY_THE_KERNEL.match(symbol)
                           and not PANICS.search(self.name(symbol))
                           and not ABORTING_ALLOCATION.search(symbol)
                           and not SOFT_FLOAT.match(symbol))

    def floating_registers(self):
        return [Offence(self.name(function), f"{count} instructions", [self.way_to(function)])
                for function, count in sorted(self.float_uses.items())]

    def frames(self):
        """Frames over the limit, and functions whose frame is not known."""
        offences = [Offence(self.name(function), f"{size} bytes", [self.way_to(function)])
                    for function, size in self.worst_frames(len(self.object.frames))
                    if size > FRAME_BYTES_MAX]
        offences += [Offence(self.name(function), "frame unknown", [self.way_to(function)])
                     for function in sorted(set(self.object.functions) - set(self.object.frames))]
        return offences

    def worst_frames(self, count):
        frames = sorted(self.object.frames.items(), key=lambda item: -item[1])
        return [(f, size) for f, size in frames if f in self.object.functions][:count]

    def recursion(self):
        """Cycles of direct calls (Tarjan's strongly connected components, without recursion)."""
        offences = []
        for component in self._components():
            if len(component) > 1 or component[0] in self.calls[component[0]]:
                names = sorted(self.name(function) for function in component)
                details = ["with " + name for name in names[1:]] + [self.way_to(component[0])]
                offences.append(Offence(names[0], f"{len(names)} functions in a cycle", details))
        return offences

    def _components(self):
        order, low, on_stack, stack, components = {}, {}, set(), [], []
        for root in sorted(self.object.functions):
            if root in order:
                continue
            order[root] = low[root] = len(order)
            stack.append(root)
            on_stack.add(root)
            work = [(root, iter(sorted(self.calls[root])))]
            while work:
                node, callees = work[-1]
                callee = next(callees, None)
                if callee is None:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == order[node]:
                        at = stack.index(node)
                        components.append(stack[at:])
                        on_stack.difference_update(stack[at:])
                        del stack[at:]
                elif callee not in order:
                    order[callee] = low[callee] = len(order)
                    stack.append(callee)
                    on_stack.add(callee)
                    work.append((callee, iter(sorted(self.calls[callee]))))
                elif callee in on_stack:
                    low[node] = min(low[node], order[callee])
        return components

    def deepest_path(self):
        """(bytes, functions): the direct calls from an entry point that take the most stack.
        Components come callees first, so each function is settled before its callers."""
        depth, following = {}, {}
        for component in self._components():
            for function in component:
                below = max((c for c in self.calls[function] if c in depth),
                            key=lambda callee: depth[callee], default=None)
                following[function] = below
                # The return address lies between two frames.
                depth[function] = self.object.frames.get(function, 0) + 8 + depth.get(below, 0)
        top = max(self.object.roots & set(depth), key=lambda f: depth[f], default=None)
        path, node = [], top
        while node is not None:
            path.append((self.name(node), self.object.frames.get(node, 0)))
            node = following[node]
        return depth.get(top, 0), path

    def relocations(self):
        bad = defaultdict(set)
        for reference in self.object.references:
            if reference.type not in LOADABLE_RELOCATIONS:
                bad[reference.source].add(f"R_X86_64_{reference.type} of {self.name(reference.target)}")
        return [Offence(self.name(function), ", ".join(sorted(kinds)), [self.way_to(function)])
                for function, kinds in sorted(bad.items())]

    def mitigations(self):
        return [Offence(self.name(function), f"{count} returns or indirect branches without a thunk",
                        [self.way_to(function)])
                for function, count in sorted(self.naked_branches.items())]

    def rules(self):
        """(name, offences) for every rule that applies to this object."""
        yield "no panic", self.panics()
        yield "no aborting allocation", self.aborting_allocations()
        yield "no software floating point", self.soft_float()
        if not self.floating_point:
            yield "no floating-point or vector register", self.floating_registers()
        yield "no symbol that the kernel lacks", self.undefined()
        yield f"no stack frame over {FRAME_BYTES_MAX} bytes", self.frames()
        yield "no recursion", self.recursion()
        yield "no relocation that the module loader refuses", self.relocations()
        yield "no return or indirect branch without a thunk", self.mitigations()
