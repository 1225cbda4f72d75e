// SPDX-License-Identifier: GPL-2.0-only
/* Entry and exit of the module. */

#include <linux/module.h>

#include "vexfs.h"

/* What the containers of the Rust half are run over when the module is loaded. */
#define CHECK_KEYS 1000

static int __init vexfs_init(void)
{
	int error;

	error = vexfs_host_init();
	if (error)
		return error;
	error = vexfs_core_containers_check(CHECK_KEYS);
	if (error) {
		pr_err("VexFS: the self-test failed (%d)\n", error);
		return error;
	}
	error = vexfs_sysfs_init();
	if (error)
		return error;
	error = vexfs_io_init();
	if (error)
		goto no_io;
	error = vexfs_register();
	if (error)
		goto not_registered;
	return 0;

not_registered:
	vexfs_io_exit();
no_io:
	vexfs_sysfs_exit();
	return error;
}

static void __exit vexfs_exit(void)
{
	vexfs_unregister();
	vexfs_io_exit();
	vexfs_sysfs_exit();
}

module_init(vexfs_init);
module_exit(vexfs_exit);

MODULE_DESCRIPTION("VexFS, a file system that searches vectors");
MODULE_AUTHOR("The VexFS developers");
MODULE_LICENSE("GPL");
MODULE_ALIAS_FS("vexfs");
