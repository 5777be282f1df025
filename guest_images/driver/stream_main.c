// SPDX-License-Identifier: GPL-2.0-only
/* The stream endpoint's driver: functions come and go. */
#include <linux/cleanup.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pci_liveupdate.h>
#include <linux/slab.h>

#include "stream.h"

#define LUSCOPE_VENDOR_ID	0x1de5
#define LUSCOPE_STREAM_DEVICE	0x4c55

static LIST_HEAD(streams);
static DEFINE_MUTEX(streams_lock);

struct luscope_stream *luscope_get(struct luscope_stream *stream)
{
	kref_get(&stream->kref);
	return stream;
}

static void stream_free(struct kref *kref)
{
	struct luscope_stream *stream = container_of(kref, struct luscope_stream, kref);

	mutex_destroy(&stream->lock);
	kfree(stream->misc.name);
	kfree(stream);
}

void luscope_put(struct luscope_stream *stream)
{
	kref_put(&stream->kref, stream_free);
}

/* The stream of a function that is bound to this driver, with a reference, or NULL. */
struct luscope_stream *luscope_find(u32 domain, u16 bdf)
{
	struct luscope_stream *stream;

	guard(mutex)(&streams_lock);
	list_for_each_entry(stream, &streams, list)
		if (pci_domain_nr(stream->pdev->bus) == domain && pci_dev_id(stream->pdev) == bdf)
			return luscope_get(stream);
	return NULL;
}

/* Whether all other endpoints that are preserved are frozen; only a planted fault asks. */
bool luscope_is_last_to_freeze(const struct luscope_stream *stream)
{
	struct luscope_stream *other;

	guard(mutex)(&streams_lock);
	list_for_each_entry(other, &streams, list)
		if (other != stream && READ_ONCE(other->is_preserved) &&
		    !READ_ONCE(other->is_frozen))
			return false;
	return true;
}

static struct luscope_stream *stream_alloc(struct pci_dev *pdev)
{
	struct luscope_stream *stream = kzalloc_obj(*stream);

	if (!stream)
		return NULL;
	stream->misc.name = kasprintf(GFP_KERNEL, "luscope-%s", pci_name(pdev));
	if (!stream->misc.name) {
		kfree(stream);
		return NULL;
	}
	kref_init(&stream->kref);
	mutex_init(&stream->lock);
	spin_lock_init(&stream->counts.lock);
	stream->misc.minor = MISC_DYNAMIC_MINOR;
	stream->misc.fops = &luscope_fops;
	stream->misc.parent = &pdev->dev;
	stream->pdev = pdev;
	stream->refused_page = LUSCOPE_STREAM_NO_PAGE;
	return stream;
}

/*
 * Memory decode on, BAR mapped. None of this changes a register of a function that is
 * at work: decode is on already, and pci_enable_device_mem() writes no value that is
 * there.
 */
static int stream_map(struct luscope_stream *stream)
{
	struct pci_dev *pdev = stream->pdev;
	int ret;

	ret = pci_enable_device_mem(pdev);
	if (ret)
		return ret;
	ret = pci_request_mem_regions(pdev, "luscope-stream");
	if (ret)
		goto err_disable;
	ret = -ENODEV;
	if (pci_resource_len(pdev, 0) < STREAM_SIZE_BYTES)
		goto err_release;
	ret = -ENOMEM;
	stream->bar = pci_ioremap_bar(pdev, 0);
	if (!stream->bar)
		goto err_release;
	ret = -ENODEV;
	if (readl(stream->bar + STREAM_ID) != STREAM_ID_VALUE)
		goto err_unmap;
	return 0;

err_unmap:
	iounmap(stream->bar);
err_release:
	pci_release_mem_regions(pdev);
err_disable:
	/* Clears Bus Master Enable: not of a function that somebody relies upon. */
	if (!stream->is_incoming)
		pci_disable_device(pdev);
	return ret;
}

static void stream_unmap(struct luscope_stream *stream)
{
	iounmap(stream->bar);
	pci_release_mem_regions(stream->pdev);
}

/* A function that nobody has preserved may still do what an earlier kernel told it to. */
static int stream_take(struct luscope_stream *stream)
{
	int ret;

	ret = luscope_stop(stream);
	if (ret)
		return ret;
	pci_set_master(stream->pdev);
	stream->counts.slots = readq(stream->bar + STREAM_WRITTEN);
	return luscope_irqs_create(stream);
}

static int stream_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct luscope_stream *stream = stream_alloc(pdev);
	int ret;

	if (!stream)
		return -ENOMEM;

	stream->is_incoming = pci_liveupdate_is_incoming(pdev);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		goto err_put;
	ret = stream_map(stream);
	if (ret)
		goto err_put;
	/* What came in is left alone until its file is retrieved. */
	if (!stream->is_incoming) {
		ret = stream_take(stream);
		if (ret)
			goto err_unmap;
	}
	ret = misc_register(&stream->misc);
	if (ret)
		goto err_irqs;

	pci_set_drvdata(pdev, stream);
	scoped_guard(mutex, &streams_lock)
		list_add_tail(&stream->list, &streams);
	return 0;

err_irqs:
	luscope_irqs_destroy(stream);
err_unmap:
	stream_unmap(stream);
	if (!stream->is_incoming)
		pci_disable_device(pdev);
err_put:
	luscope_put(stream);
	return ret;
}

/*
 * Files may outlive the function. One that was preserved, or came in, is let go as it
 * is, with the memory that it writes to: whoever removes it answers for it. Only what
 * this kernel cannot keep of a removed function, its interrupts, is taken down.
 */
static void stream_remove(struct pci_dev *pdev)
{
	struct luscope_stream *stream = pci_get_drvdata(pdev);

	misc_deregister(&stream->misc);
	scoped_guard(mutex, &streams_lock)
		list_del(&stream->list);
	scoped_guard(mutex, &stream->lock) {
		bool is_untouchable = stream->is_preserved || stream->is_incoming;

		if (!is_untouchable && !luscope_stop(stream))
			luscope_ring_destroy(stream);
		luscope_irqs_destroy(stream);
		stream_unmap(stream);
		if (!is_untouchable)
			pci_disable_device(pdev);
		stream->pdev = NULL;
	}
	luscope_put(stream);
}

/*
 * One that is not preserved must stand still: its memory is anybody's in the next
 * kernel. That goes for one that came in and was not preserved again, too.
 */
static void stream_shutdown(struct pci_dev *pdev)
{
	struct luscope_stream *stream = pci_get_drvdata(pdev);

	guard(mutex)(&stream->lock);
	if (stream->is_preserved)
		return;
	if (luscope_is_running(stream) && luscope_stop(stream))
		pci_err(pdev, "the engine does not stop\n");
}

static const struct pci_device_id stream_ids[] = {
	{ PCI_DEVICE(LUSCOPE_VENDOR_ID, LUSCOPE_STREAM_DEVICE) },
	{ }
};

static struct pci_driver stream_driver = {
	.name = "luscope-stream",
	.id_table = stream_ids,
	.probe = stream_probe,
	.remove = stream_remove,
	.shutdown = stream_shutdown,
	/* A driver does not let go of a device between preserve and finish. */
	.driver.suppress_bind_attrs = true,
};

static int __init stream_init(void)
{
	int ret;

	ret = luscope_liveupdate_init();
	if (ret)
		return ret;
	return pci_register_driver(&stream_driver);
}
device_initcall(stream_init);
