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

	.section .note.GNU-stack, "", @progbits
