// SPDX-License-Identifier: GPL-2.0-only
/* The character device: what user space can ask of a stream endpoint. */
#include <linux/anon_inodes.h>
#include <linux/cleanup.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "stream.h"

/* In memory that the next kernel is going to have as it is nothing is replaced. */
static int stream_require_changeable(struct luscope_stream *stream)
{
	if (!stream->pdev)
		return -ENODEV;
	if (stream->is_preserved || stream->is_frozen || stream->is_incoming)
		return -EBUSY;
	return 0;
}

/*
 * A device that came in without all of its memory can be looked at and stopped, and
 * nothing else.
 */
static int stream_require_device(struct luscope_stream *stream)
{
	if (!stream->pdev)
		return -ENODEV;
	return stream->is_frozen ? -EBUSY : 0;
}

static int stream_ioctl_setup(struct luscope_stream *stream, const void __user *user)
{
	struct luscope_stream_setup setup;
	int ret;

	if (copy_from_user(&setup, user, sizeof(setup)))
		return -EFAULT;
	if (!setup.pages || setup.pages > LUSCOPE_STREAM_MAX_PAGES || setup.reserved)
		return -EINVAL;

	guard(mutex)(&stream->lock);
	ret = stream_require_changeable(stream);
	if (ret)
		return ret;
	if (luscope_is_running(stream))
		return -EBUSY;
	return luscope_ring_create(stream, setup.pages);
}

static int stream_ioctl_start(struct luscope_stream *stream, const void __user *user)
{
	struct luscope_stream_start program;
	int ret;

	if (copy_from_user(&program, user, sizeof(program)))
		return -EFAULT;
	if (program.reserved)
		return -EINVAL;

	guard(mutex)(&stream->lock);
	ret = stream_require_device(stream);
	if (ret)
		return ret;
	if (stream->is_incoming)
		return -EBUSY;
	return luscope_start(stream, &program);
}

static int stream_ioctl_stop(struct luscope_stream *stream)
{
	int ret;

	guard(mutex)(&stream->lock);
	ret = stream_require_device(stream);
	return ret ?: luscope_stop(stream);
}

static int stream_ioctl_status(struct luscope_stream *stream, void __user *user)
{
	struct luscope_stream_status status = {};
	int ret;

	scoped_guard(mutex, &stream->lock) {
		ret = stream_require_device(stream);
		if (ret)
			return ret;
		if (luscope_is_running(stream))
			status.flags |= LUSCOPE_STREAM_RUNNING;
		if (stream->is_preserved)
			status.flags |= LUSCOPE_STREAM_PRESERVED;
		if (stream->is_incoming)
			status.flags |= LUSCOPE_STREAM_INCOMING;
		if (stream->has_irqs)
			status.flags |= LUSCOPE_STREAM_INTERRUPTS;
		status.pages = stream->ring.pages;
		status.error = -stream->error;
		status.refused_page = stream->refused_page;
		luscope_read_counters(stream, &status);
	}
	return copy_to_user(user, &status, sizeof(status)) ? -EFAULT : 0;
}

static int stream_ioctl_frames(struct luscope_stream *stream, void __user *user)
{
	u64 *frames __free(kfree) = kcalloc(STREAM_MAX_FRAMES, sizeof(*frames), GFP_KERNEL);
	struct luscope_stream_frames request;
	unsigned int i, count;

	if (!frames)
		return -ENOMEM;
	if (copy_from_user(&request, user, sizeof(request)))
		return -EFAULT;
	if (request.reserved)
		return -EINVAL;

	/* User memory is touched without the lock, as mmap() takes them the other way round. */
	scoped_guard(mutex, &stream->lock) {
		count = stream->ring.pages ? stream->ring.pages + 1 : 0;
		for (i = 0; i < count && stream->ring.page[i]; i++)
			frames[i] = page_to_pfn(stream->ring.page[i]);
	}
	if (!count)
		return -ENXIO;
	if (i < count)
		return -EFAULT;
	if (copy_to_user(u64_to_user_ptr(request.frames), frames,
			 min(count, request.count) * sizeof(*frames)))
		return -EFAULT;
	request.count = count;
	return copy_to_user(user, &request, sizeof(request)) ? -EFAULT : 0;
}

static long stream_file_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct luscope_stream *stream = file->private_data;
	void __user *user = (void __user *)argument;

	switch (command) {
	case LUSCOPE_STREAM_SETUP:
		return stream_ioctl_setup(stream, user);
	case LUSCOPE_STREAM_START:
		return stream_ioctl_start(stream, user);
	case LUSCOPE_STREAM_STOP:
		return stream_ioctl_stop(stream);
	case LUSCOPE_STREAM_STATUS:
		return stream_ioctl_status(stream, user);
	case LUSCOPE_STREAM_FRAMES:
		return stream_ioctl_frames(stream, user);
	default:
		return -ENOTTY;
	}
}

/* The ring and its mailbox page, all of it or from its beginning. */
static int stream_file_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct luscope_stream *stream = file->private_data;
	struct stream_ring *ring = &stream->ring;

	guard(mutex)(&stream->lock);
	if (!ring->pages)
		return -ENXIO;
	if (stream->refused_page != LUSCOPE_STREAM_NO_PAGE)
		return -EFAULT;
	return vm_map_pages(vma, ring->page, ring->pages + 1);
}

/* Like VFIO, nobody opens a device that came in before it is retrieved, or was refused. */
static int stream_file_open(struct inode *inode, struct file *file)
{
	struct luscope_stream *stream =
		container_of(file->private_data, struct luscope_stream, misc);

	guard(mutex)(&stream->lock);
	if (!stream->pdev)
		return -ENODEV;
	if (stream->is_incoming && !stream->is_retrieved && !stream->error)
		return -EBUSY;
	stream->users++;
	file->private_data = luscope_get(stream);
	return 0;
}

/*
 * What a device was told to do ends with its last user, unless another kernel has to do
 * with it.
 */
static int stream_file_release(struct inode *inode, struct file *file)
{
	struct luscope_stream *stream = file->private_data;

	scoped_guard(mutex, &stream->lock) {
		if (!--stream->users && !stream_require_changeable(stream)) {
			if (luscope_stop(stream))
				pci_err(stream->pdev, "the engine does not stop\n");
			else
				luscope_ring_destroy(stream);
		}
	}
	luscope_put(stream);
	return 0;
}

const struct file_operations luscope_fops = {
	.owner = THIS_MODULE,
	.open = stream_file_open,
	.release = stream_file_release,
	.unlocked_ioctl = stream_file_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = stream_file_mmap,
};

/* A file like one that was opened; the caller holds the lock. */
struct file *luscope_new_file(struct luscope_stream *stream)
{
	struct file *file;

	file = anon_inode_getfile("[luscope-stream]", &luscope_fops, stream, O_RDWR | O_CLOEXEC);
	if (IS_ERR(file))
		return file;
	luscope_get(stream);
	stream->users++;
	return file;
}
