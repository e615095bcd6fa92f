// SPDX-License-Identifier: GPL-2.0
/* probe: what the header of an image says. */
#include "netlink_priv.h"

#include "core.h"
#include "nl_gen.h"

#include <qblk/driver.h>

#include <linux/bvec.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sizes.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <net/genetlink.h>
#include <net/netlink.h>

#define QBLK_NL_PROBE_SIZE	SZ_4K	/* first look */
#define QBLK_NL_PROBE_SIZE_MAX	SZ_2M	/* see &qblk_probe.want */

/* What is found: three names and a few numbers */
#define QBLK_NL_PROBE_REPLY	(sizeof(struct qblk_probe) + SZ_256)

/**
 * struct qblk_nl_probe - a probe under way
 * @file: where the image is
 * @offset: of the image in @file
 * @size: of the image, bytes
 * @buf: its start, from vmalloc()
 * @len: bytes in @buf
 * @guess: nobody knows the header
 * @p: what it says
 */
struct qblk_nl_probe {
	struct file *file;
	u64 offset;
	u64 size;
	u8 *buf;
	size_t len;
	bool guess;
	struct qblk_probe p;
};

static int qblk_nl_probe_file(struct qblk_nl_ctx *ctx, struct qblk_nl_probe *pr)
{
	struct nlattr *attr = ctx->info->attrs[QBLK_A_PROBE_FD];
	umode_t mode;

	if (GENL_REQ_ATTR_CHECK(ctx->info, QBLK_A_PROBE_FD)) {
		qblk_err_set(&ctx->err, "probe: a file descriptor is missing");
		return -EINVAL;
	}
	pr->file = fget(nla_get_s32(attr));
	if (!pr->file) {
		qblk_err_set(&ctx->err,
			     "probe: %d is not an open file descriptor",
			     nla_get_s32(attr));
		return -EBADF;
	}
	mode = file_inode(pr->file)->i_mode;
	if (!S_ISREG(mode) && !S_ISBLK(mode)) {
		qblk_err_set(&ctx->err,
			     "probe: neither a regular file nor a block device");
		return -EINVAL;
	}
	if (!(pr->file->f_mode & FMODE_READ)) {
		qblk_err_set(&ctx->err, "probe: not open for reading");
		return -EBADF;
	}
	pr->size = i_size_read(pr->file->f_mapping->host);
	if (pr->offset > pr->size) {
		qblk_err_set(&ctx->err,
			     "probe: the offset %llu is behind the end (%llu)",
			     pr->offset, pr->size);
		return -EINVAL;
	}
	pr->size -= pr->offset;
	return 0;
}

/* Whole pages through a bvec: a descriptor with O_DIRECT takes nothing else. */
static ssize_t qblk_nl_read_pages(struct file *file, u8 *buf, unsigned int nr,
				  loff_t pos)
{
	struct bio_vec *bvec;
	struct iov_iter iter;
	unsigned int i;
	ssize_t ret;

	bvec = kvcalloc(nr, sizeof(*bvec), GFP_KERNEL);
	if (!bvec)
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		bvec[i].bv_page = vmalloc_to_page(buf + i * PAGE_SIZE);
		bvec[i].bv_len = PAGE_SIZE;
	}
	iov_iter_bvec(&iter, ITER_DEST, bvec, nr, (size_t)nr * PAGE_SIZE);
	ret = vfs_iter_read(file, &iter, &pos, 0);
	kvfree(bvec);
	return ret;
}

static int qblk_nl_probe_read(struct qblk_nl_ctx *ctx,
			      struct qblk_nl_probe *pr, size_t want)
{
	unsigned int nr = DIV_ROUND_UP(want, PAGE_SIZE);
	struct address_space *mapping = pr->file->f_mapping;
	ssize_t ret;

	vfree(pr->buf);
	pr->len = 0;
	pr->buf = vzalloc((size_t)nr * PAGE_SIZE);
	if (!pr->buf)
		return -ENOMEM;
	ret = qblk_nl_read_pages(pr->file, pr->buf, nr, pr->offset);
	if (ret < 0) {
		qblk_err_set(&ctx->err, "probe: reading the header failed (%pe)",
			     ERR_PTR(ret));
		return ret;
	}
	/*
	 * qblk goes around the page cache of a block device.  Leave nothing
	 * there that would be stale by the time somebody looks at it.
	 */
	if (S_ISBLK(file_inode(pr->file)->i_mode))
		invalidate_mapping_pages(mapping, pr->offset >> PAGE_SHIFT,
					 (pr->offset >> PAGE_SHIFT) + nr);
	pr->len = min_t(size_t, ret, want);
	return 0;
}

static int qblk_nl_probe_as(struct qblk_nl_ctx *ctx, struct qblk_nl_probe *pr,
			    struct qblk_driver *drv)
{
	int ret;

	memset(&pr->p, 0, sizeof(pr->p));
	pr->p.want = pr->len;
	ret = drv->probe(pr->buf, pr->len, &pr->p, &ctx->err);
	strscpy(pr->p.format, drv->name, sizeof(pr->p.format));
	return ret;
}

/* Ask, and ask again with as much as the driver wants to see. */
static int qblk_nl_probe_ask(struct qblk_nl_ctx *ctx, struct qblk_nl_probe *pr,
			     struct qblk_driver *drv)
{
	size_t want = QBLK_NL_PROBE_SIZE;
	int ret;

	for (;;) {
		ret = qblk_nl_probe_read(ctx, pr, want);
		if (ret)
			return ret;
		ret = drv ? qblk_nl_probe_as(ctx, pr, drv) :
			    qblk_driver_probe(pr->buf, pr->len, &pr->p,
					      &ctx->err);
		if (ret != -ENODATA)
			break;
		if (pr->p.want <= want || pr->p.want > QBLK_NL_PROBE_SIZE_MAX ||
		    pr->len < want) {
			qblk_err_set(&ctx->err,
				     "probe: the %s header is cut off",
				     pr->p.format);
			return -EINVAL;
		}
		want = pr->p.want;
	}
	if (ret == -EINVAL)
		qblk_err_set(&ctx->err, "probe: the %s header is broken",
			     pr->p.format);
	return ret;
}

static bool qblk_nl_is_raw(const char *format)
{
	return !strcmp(format, qblk_drv_raw.name);
}

static void qblk_nl_probe_is_raw(struct qblk_nl_probe *pr)
{
	strscpy(pr->p.format, qblk_drv_raw.name, sizeof(pr->p.format));
	pr->p.virtual_size = pr->size;
}

static int qblk_nl_probe_any(struct qblk_nl_ctx *ctx, struct qblk_nl_probe *pr)
{
	int score;

	score = qblk_nl_probe_ask(ctx, pr, NULL);
	if (score < 0)
		return score;
	if (!score || qblk_nl_is_raw(pr->p.format)) {
		pr->guess = true;
		qblk_nl_probe_is_raw(pr);
	}
	return 0;
}

static int qblk_nl_probe_named(struct qblk_nl_ctx *ctx,
			       struct qblk_nl_probe *pr, const char *name)
{
	struct qblk_driver *drv;
	int score = 0;

	/* Anything is raw, and as large as it is. */
	if (qblk_nl_is_raw(name)) {
		qblk_nl_probe_is_raw(pr);
		return 0;
	}
	drv = qblk_driver_get(name, &ctx->err);
	if (IS_ERR(drv))
		return PTR_ERR(drv);
	if (drv->probe)
		score = qblk_nl_probe_ask(ctx, pr, drv);
	if (!drv->probe) {
		qblk_err_set(&ctx->err, "probe: driver '%s' is not an image format",
			     name);
		score = -EINVAL;
	} else if (!score) {
		qblk_err_set(&ctx->err, "probe: not a %s image", name);
		score = -EINVAL;
	}
	qblk_driver_put(drv);
	return min(score, 0);
}

static int qblk_nl_put_probe(struct sk_buff *skb,
			     const struct qblk_nl_probe *pr)
{
	const struct qblk_probe *p = &pr->p;

	if (nla_put_string(skb, QBLK_A_PROBE_FORMAT, p->format) ||
	    (pr->guess && nla_put_flag(skb, QBLK_A_PROBE_GUESS)) ||
	    nla_put_u64_64bit(skb, QBLK_A_PROBE_VIRTUAL_SIZE, p->virtual_size,
			      QBLK_A_PROBE_PAD) ||
	    (*p->backing_file && nla_put_string(skb, QBLK_A_PROBE_BACKING_FILE,
						p->backing_file)) ||
	    (*p->backing_format &&
	     nla_put_string(skb, QBLK_A_PROBE_BACKING_FORMAT,
			    p->backing_format)) ||
	    (*p->data_file && nla_put_string(skb, QBLK_A_PROBE_DATA_FILE,
					     p->data_file)))
		return -EMSGSIZE;
	return 0;
}

static int qblk_nl_probe(struct qblk_nl_ctx *ctx)
{
	struct nlattr **attrs = ctx->info->attrs;
	const char *format = qblk_nl_text(attrs[QBLK_A_PROBE_FORMAT]);
	struct qblk_nl_probe *pr;
	int ret;

	pr = kzalloc(sizeof(*pr), GFP_KERNEL);
	if (!pr)
		return -ENOMEM;
	if (attrs[QBLK_A_PROBE_OFFSET])
		pr->offset = nla_get_u64(attrs[QBLK_A_PROBE_OFFSET]);
	ret = qblk_nl_probe_file(ctx, pr);
	if (!ret)
		ret = format ? qblk_nl_probe_named(ctx, pr, format) :
			       qblk_nl_probe_any(ctx, pr);
	if (!ret)
		ret = qblk_nl_reply_new(ctx, QBLK_NL_PROBE_REPLY);
	if (!ret)
		ret = qblk_nl_put_probe(ctx->reply, pr);
	if (pr->file)
		fput(pr->file);
	vfree(pr->buf);
	kfree(pr);
	return ret;
}

int qblk_nl_probe_doit(struct sk_buff *skb, struct genl_info *info)
{
	return qblk_nl_run(skb, info, qblk_nl_probe, false);
}
