// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * A module that does what a module may not do, one thing at a time, to show that a guest which
 * does it fails: insmod probe.ko fault=NAME. Without a fault it greets, and can be unloaded.
 */
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>

static char *fault = "none";
module_param(fault, charp, 0444);

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);

static noinline void leak(void)
{
	char *lost = kmalloc(100, GFP_KERNEL);

	if (lost)
		strscpy(lost, "lost", 100);
	OPTIMIZER_HIDE_VAR(lost);
}

static noinline void use_after_free(void)
{
	char *gone = kmalloc(100, GFP_KERNEL);

	kfree(gone);
	OPTIMIZER_HIDE_VAR(gone);
	if (gone)
		WRITE_ONCE(gone[10], 1);
}

static noinline void lock_in_two_orders(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);
	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static noinline void sleep_with_spinlock(void)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	might_sleep();
	spin_unlock(&lock);
}

static int __init probe_init(void)
{
	if (!strcmp(fault, "warning"))
		WARN(1, "probe: a warning\n");
	else if (!strcmp(fault, "panic"))
		panic("probe: a panic");
	else if (!strcmp(fault, "null"))
		WRITE_ONCE(*(volatile int *)16, 1);
	else if (!strcmp(fault, "leak"))
		leak();
	else if (!strcmp(fault, "use-after-free"))
		use_after_free();
	else if (!strcmp(fault, "lock-order"))
		lock_in_two_orders();
	else if (!strcmp(fault, "atomic-sleep"))
		sleep_with_spinlock();
	else if (strcmp(fault, "none"))
		return -EINVAL;
	pr_info("probe: loaded, fault %s\n", fault);
	return 0;
}

static void __exit probe_exit(void)
{
	pr_info("probe: unloaded\n");
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_DESCRIPTION("Faults on demand, for vm/check");
MODULE_LICENSE("GPL");
