// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stream endpoint across a live update: its file is preserved with the Live Update
 * Orchestrator
 *
 * The engine goes on from preserve to finish. What is handed over is where its memory
 * is and what it was programmed to do; the device's registers stay as they are.
 * Interrupts are not preserved: those that fall between freeze and finish are lost, and
 * one that the device is asked for at finish makes the handler look for what they would
 * have told.
 */
#include <linux/cleanup.h>
#include <linux/io.h>
#include <linux/kexec_handover.h>
#include <linux/liveupdate.h>
#include <linux/mm.h>
#include <linux/pci_liveupdate.h>

#include "stream.h"

/**
 * struct stream_ser - What one kernel tells the next of a stream; "luscope-stream-v1".
 * @domain:   Of the function.
 * @bdf:      Bus, device and function.
 * @pages:    Pages of the ring.
 * @reserved: Zero.
 * @program:  What the engine was started with last.
 * @slots:    Slots that the driver knew of when it was frozen.
 * @frames:   Page frame numbers: ring, then mailbox.
 */
struct stream_ser {
	u32 domain;
	u32 bdf;
	u32 pages;
	u32 reserved;
	struct luscope_stream_start program;
	u64 slots;
	u64 frames[STREAM_MAX_FRAMES];
};

static bool stream_luo_can_preserve(struct liveupdate_file_handler *handler, struct file *file)
{
	return file->f_op == &luscope_fops;
}

/* One device, however many files of it: it is preserved once. */
static unsigned long stream_luo_get_id(struct file *file)
{
	return (unsigned long)file->private_data;
}

/* What may have changed since preserve. */
static void stream_write_ser(struct luscope_stream *stream, struct stream_ser *ser)
{
	ser->program = stream->program;
	scoped_guard(spinlock_irqsave, &stream->counts.lock)
		ser->slots = stream->counts.slots;
}

static void stream_fill_ser(struct luscope_stream *stream, struct stream_ser *ser)
{
	unsigned int i;

	ser->domain = pci_domain_nr(stream->pdev->bus);
	ser->bdf = pci_dev_id(stream->pdev);
	ser->pages = stream->ring.pages;
	for (i = 0; i <= stream->ring.pages; i++)
		ser->frames[i] = page_to_pfn(stream->ring.page[i]);
	stream_write_ser(stream, ser);
}

static int stream_luo_preserve(struct liveupdate_file_op_args *args)
{
	struct luscope_stream *stream = args->file->private_data;
	struct stream_ser *ser;
	int ret;

	guard(mutex)(&stream->lock);
	if (!stream->pdev)
		return -ENODEV;
	if (!stream->ring.pages)
		return -ENXIO;
	if (stream->is_preserved || stream->is_incoming)
		return -EBUSY;
	if (pci_liveupdate_fault("preserve-refuses"))
		return -EBUSY;

	ret = pci_liveupdate_preserve(stream->pdev);
	if (ret)
		return ret;
	ret = luscope_ring_preserve(stream);
	if (ret)
		goto err_unpreserve;
	ser = kho_alloc_preserve(sizeof(*ser));
	if (IS_ERR(ser)) {
		ret = PTR_ERR(ser);
		goto err_unpreserve_ring;
	}
	stream_fill_ser(stream, ser);
	stream->is_preserved = true;
	args->serialized_data = virt_to_phys(ser);
	return 0;

err_unpreserve_ring:
	luscope_ring_unpreserve(stream);
err_unpreserve:
	pci_liveupdate_unpreserve(stream->pdev);
	return ret;
}

static void stream_luo_unpreserve(struct liveupdate_file_op_args *args)
{
	struct luscope_stream *stream = args->file->private_data;

	guard(mutex)(&stream->lock);
	kho_unpreserve_free(phys_to_virt(args->serialized_data));
	luscope_ring_unpreserve(stream);
	/* The PCI core has seen to a function that was removed. */
	if (stream->pdev)
		pci_liveupdate_unpreserve(stream->pdev);
	stream->is_preserved = false;
}

/*
 * The last word of this kernel. MSI-X stays enabled, for taking it down takes writes to
 * the device, and it is the next kernel's enumeration that has to cope with whatever it
 * finds: it clears MSI-X Enable of every function. Interrupts that still come in are
 * counted by nobody.
 */
static int stream_luo_freeze(struct liveupdate_file_op_args *args)
{
	struct luscope_stream *stream = args->file->private_data;

	guard(mutex)(&stream->lock);
	if (!stream->pdev)
		return -ENODEV;
	/* The last one, so that there is something to unfreeze. */
	if (pci_liveupdate_fault("freeze-refuses") && luscope_is_last_to_freeze(stream))
		return -EBUSY;

	WRITE_ONCE(stream->is_frozen, true);
	luscope_irqs_quiesce(stream);
	stream_write_ser(stream, phys_to_virt(args->serialized_data));
	return 0;
}

static void stream_luo_unfreeze(struct liveupdate_file_op_args *args)
{
	struct luscope_stream *stream = args->file->private_data;

	guard(mutex)(&stream->lock);
	WRITE_ONCE(stream->is_frozen, false);
}

/*
 * The endpoint that a file stands for, if it is still the one that was preserved; with
 * a reference.
 */
static struct luscope_stream *stream_of_ser(const struct stream_ser *ser)
{
	struct luscope_stream *stream = luscope_find(ser->domain, ser->bdf);

	if (stream && !stream->is_incoming) {
		luscope_put(stream);
		stream = NULL;
	}
	return stream;
}

static int stream_retrieve(struct luscope_stream *stream, struct liveupdate_file_op_args *args,
			   const struct stream_ser *ser)
{
	struct file *file;
	int ret;

	guard(mutex)(&stream->lock);
	if (!stream->pdev)
		return -ENODEV;

	stream->program = ser->program;
	stream->counts.slots = ser->slots;
	ret = luscope_ring_restore(stream, ser->pages, ser->frames);
	if (ret)
		goto err_remember;
	file = luscope_new_file(stream);
	if (IS_ERR(file)) {
		ret = PTR_ERR(file);
		goto err_remember;
	}
	/* Writes nothing if it is set; else somebody has stopped what should have gone on. */
	pci_set_master(stream->pdev);
	stream->is_retrieved = true;
	args->file = file;
	return 0;

err_remember:
	stream->error = ret;
	return ret;
}

static int stream_luo_retrieve(struct liveupdate_file_op_args *args)
{
	struct stream_ser *ser = phys_to_virt(args->serialized_data);
	struct luscope_stream *stream = stream_of_ser(ser);
	int ret;

	if (!stream) {
		pr_err("luscope-stream: %04x:%02x:%02x.%u was not preserved, or is not there\n",
		       ser->domain, PCI_BUS_NUM(ser->bdf), PCI_SLOT(ser->bdf),
		       PCI_FUNC(ser->bdf));
		return -ENODEV;
	}
	ret = stream_retrieve(stream, args, ser);
	luscope_put(stream);
	return ret;
}

/* Nobody finishes a device that writes to memory which nobody has taken back. */
static bool stream_luo_can_finish(struct liveupdate_file_op_args *args)
{
	struct luscope_stream *stream;
	bool can_finish;

	if (args->retrieve_status > 0)
		return true;

	stream = stream_of_ser(phys_to_virt(args->serialized_data));
	if (!stream)
		return true;
	scoped_guard(mutex, &stream->lock)
		can_finish = args->retrieve_status && stream->pdev && !luscope_is_running(stream);
	luscope_put(stream);
	return can_finish;
}

/*
 * The device is this kernel's: interrupts as after any probe, and one to look for what
 * was missed.
 */
static void stream_finish(struct luscope_stream *stream)
{
	int ret;

	guard(mutex)(&stream->lock);
	if (!stream->pdev)
		return;
	pci_liveupdate_finish(stream->pdev);
	stream->is_incoming = false;
	/* can_finish() has seen that it stands still. */
	if (!stream->is_retrieved)
		luscope_ring_destroy(stream);
	ret = luscope_irqs_create(stream);
	if (ret) {
		pci_err(stream->pdev, "no interrupts: %d\n", ret);
		stream->error = ret;
		return;
	}
	if (stream->is_retrieved && !pci_liveupdate_fault("no-catch-up"))
		luscope_doorbell(stream, LUSCOPE_STREAM_CATCH_UP_VECTOR);
}

static void stream_luo_finish(struct liveupdate_file_op_args *args)
{
	struct stream_ser *ser = phys_to_virt(args->serialized_data);
	struct luscope_stream *stream;

	stream = args->file ? luscope_get(args->file->private_data) : stream_of_ser(ser);
	if (stream) {
		stream_finish(stream);
		luscope_put(stream);
	} else {
		luscope_ring_discard(ser->pages, ser->frames);
	}
	kho_restore_free(ser);
}

static const struct liveupdate_file_ops stream_luo_ops = {
	.can_preserve = stream_luo_can_preserve,
	.preserve = stream_luo_preserve,
	.unpreserve = stream_luo_unpreserve,
	.freeze = stream_luo_freeze,
	.unfreeze = stream_luo_unfreeze,
	.retrieve = stream_luo_retrieve,
	.can_finish = stream_luo_can_finish,
	.finish = stream_luo_finish,
	.get_id = stream_luo_get_id,
	.owner = THIS_MODULE,
};

static struct liveupdate_file_handler stream_luo_handler = {
	.ops = &stream_luo_ops,
	.compatible = "luscope-stream-v1",
};

/* Without live update the driver is one like any other. */
int luscope_liveupdate_init(void)
{
	int ret;

	ret = liveupdate_register_file_handler(&stream_luo_handler);
	if (ret == -EOPNOTSUPP)
		return 0;
	if (ret)
		return ret;
	ret = pci_liveupdate_register_flb(&stream_luo_handler);
	if (ret)
		liveupdate_unregister_file_handler(&stream_luo_handler);
	return ret;
}
