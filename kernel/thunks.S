/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The Rust half returns, and branches indirectly, through the kernel's thunks. A kernel without them
 * (user-mode Linux, or one built without the mitigations) gets plain ones.
 */
#include <linux/linkage.h>

	.text

#if !defined(CONFIG_MITIGATION_RETHUNK) && !defined(CONFIG_RETHUNK)
SYM_FUNC_START(__x86_return_thunk)
	ret
	int3
SYM_FUNC_END(__x86_return_thunk)
#endif

#if !defined(CONFIG_MITIGATION_RETPOLINE) && !defined(CONFIG_RETPOLINE)
SYM_FUNC_START(__x86_indirect_thunk_r11)
	jmp *%r11
SYM_FUNC_END(__x86_indirect_thunk_r11)
#endif

#ifdef CONFIG_UML
/* There the kernel may be farther from a module than a call reaches: kernel/module renames them. */
.macro far name
SYM_FUNC_START(vexfs_far_\name)
	movabs $\name, %r11
	jmp *%r11
SYM_FUNC_END(vexfs_far_\name)
.endm

	far memcpy
	far memmove
	far memset
	far memcmp
#ifdef CONFIG_KASAN
	far __asan_handle_no_return
.irp bytes, 1, 2, 4, 8, 16, N
	far __asan_load\bytes\()_noabort
	far __asan_store\bytes\()_noabort
.endr
#endif
#endif

	.section .note.GNU-stack, "", @progbits
