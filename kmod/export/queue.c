// SPDX-License-Identifier: GPL-2.0
/*
 * Requests.  Below this file nobody knows struct request.
 *
 * Tier 1 runs in ->queue_rq(), in the context of whoever submitted the bio:
 * each bio is mapped to places on leaves and its pieces are sent there.  What
 * cannot be done that way goes to tier 2, a worker, which may block: the rest
 * of the request from the first piece that could not be sent, and pieces a
 * leaf gave back with BLK_STS_AGAIN.
 *
 * Lifetime: a request completes when qblk_rq.pending falls to zero.  Every
 * piece in flight holds one reference, and so does whoever is still looking at
 * the request: ->queue_rq(), or, from the moment that has queued it, the
 * worker.  So a piece that completes before its submission has returned, in
 * whatever context, cannot complete the request under its submitter.  Whoever
 * has dropped a reference does not touch the request again.
 *
 * Forward progress under memory pressure.  Tier 1 takes memory only for the
 * second and further pieces of a request, and does without when there is none.
 * Tier 2 runs with GFP_NOIO in force on a WQ_MEM_RECLAIM workqueue, so at worst
 * its rescuer runs one request after the other.  That is enough: below, a
 * request waits only for requests that a worker is running already or that
 * leaves have in flight (an overlapping read-modify-write, an allocation, a
 * flush), never for one that is merely queued here.  What a leaf queues itself,
 * it writes from a worker that has a rescuer of its own (protocol/append.c).
 * So in the order in which workers picked them up, the first one waits for
 * leaves only, and each of the others for earlier ones.  Leaves are other
 * devices with their own guarantee, and a disk that is itself a leaf of another
 * disk has a workqueue of its own.
 */
#include "export_priv.h"

#include <linux/bio.h>
#include <linux/bvec.h>
#include <linux/llist.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/workqueue.h>

#include <qblk/driver.h>
#include <qblk/req.h>

/* Flags of a request a leaf gets to see */
#define QBLK_PASS_FLAGS							\
	(REQ_FAILFAST_MASK | REQ_SYNC | REQ_META | REQ_PRIO | REQ_FUA |	\
	 REQ_IDLE | REQ_BACKGROUND | REQ_NOWAIT)

/**
 * struct qblk_piece - a part of one bio on its way through a leaf
 * @io: what the leaf works on
 * @iter: the part of @io.src, for doing it again
 * @pos: offset on the disk
 * @redo: in qblk_rq.redo
 */
struct qblk_piece {
	struct qblk_io io;
	struct bvec_iter iter;
	u64 pos;
	struct llist_node redo;
};

/**
 * struct qblk_cursor - what is left of a request
 * @bio: first bio that is not done, NULL when all are
 * @iter: what is left of it
 * @pos: offset of that on the disk
 */
struct qblk_cursor {
	struct bio *bio;
	struct bvec_iter iter;
	u64 pos;
};

/**
 * struct qblk_rq - ours of a request
 * @work: tier 2
 * @pending: pieces in flight, and one for who looks at the request
 * @status: an error, when there was one
 * @in_worker: tier 2 has it
 * @may_enter_fs: see qblk_may_enter_fs()
 * @first_used: @first is or was in flight; it is not sent twice, since its end
 *	may race with the next piece's begin
 * @rest: owned by whoever looks at the request
 * @redo: pieces to do again the blocking way; any context adds
 * @first: spares most requests an allocation
 */
struct qblk_rq {
	struct work_struct work;
	atomic_t pending;
	blk_status_t status;
	bool in_worker;
	bool may_enter_fs;
	bool first_used;
	struct qblk_cursor rest;
	struct llist_head redo;
	struct qblk_piece first;
};

const unsigned int qblk_rq_size = sizeof(struct qblk_rq);

static struct kmem_cache *qblk_piece_cache;

static struct request *qblk_rq_request(struct qblk_rq *qrq)
{
	return blk_mq_rq_from_pdu(qrq);
}

static struct qblk_export *qblk_rq_export(struct qblk_rq *qrq)
{
	return qblk_rq_request(qrq)->q->queuedata;
}

/*
 * One error of several is as good as another, so a race is harmless.  "Again"
 * is no answer to who submitted a bio that may block.
 */
static void qblk_rq_fail(struct qblk_rq *qrq, blk_status_t status)
{
	if (status == BLK_STS_AGAIN)
		status = BLK_STS_IOERR;
	if (!READ_ONCE(qrq->status))
		WRITE_ONCE(qrq->status, status);
}

static void qblk_rq_queue_work(struct qblk_rq *qrq)
{
	struct qblk_export *exp = qblk_rq_export(qrq);

	this_cpu_inc(exp->stats->tier2);
	queue_work(exp->wq, &qrq->work);
}

static void qblk_complete_rq(struct request *rq)
{
	struct qblk_rq *qrq = blk_mq_rq_to_pdu(rq);

	blk_mq_end_request(rq, qrq->status);
}

/*
 * The last reference completes the request, unless leaves gave pieces back:
 * then it becomes the worker's.  The work may just be at its end, in the very
 * call of this function; queueing a running work makes it run once more.
 *
 * @direct: called by a task, which can complete the request on the spot;
 * otherwise the block layer picks the place.
 */
static void qblk_rq_put(struct qblk_rq *qrq, bool direct)
{
	struct request *rq = qblk_rq_request(qrq);

	if (!atomic_dec_and_test(&qrq->pending))
		return;
	if (!llist_empty(&qrq->redo)) {
		atomic_set(&qrq->pending, 1);
		qblk_rq_queue_work(qrq);
	} else if (direct) {
		blk_mq_complete_request_direct(rq, qblk_complete_rq);
	} else {
		blk_mq_complete_request(rq);
	}
}

static void qblk_cursor_start(struct qblk_cursor *cur, struct request *rq)
{
	cur->bio = rq->bio;
	if (cur->bio)
		cur->iter = cur->bio->bi_iter;
	cur->pos = (u64)blk_rq_pos(rq) << SECTOR_SHIFT;
}

/* The bios of a request are contiguous on the disk */
static void qblk_cursor_advance(struct qblk_cursor *cur, unsigned int bytes)
{
	cur->pos += bytes;
	bio_advance_iter(cur->bio, &cur->iter, bytes);
	if (cur->iter.bi_size)
		return;
	cur->bio = cur->bio->bi_next;
	if (cur->bio)
		cur->iter = cur->bio->bi_iter;
}

static struct bvec_iter qblk_cursor_iter(const struct qblk_cursor *cur,
					 unsigned int bytes)
{
	struct bvec_iter iter = cur->iter;

	iter.bi_size = bytes;
	return iter;
}

static struct qblk_piece *qblk_piece_get(struct qblk_rq *qrq)
{
	if (qrq->first_used)
		return kmem_cache_alloc(qblk_piece_cache,
					GFP_NOWAIT | __GFP_NOWARN);
	qrq->first_used = true;
	return &qrq->first;
}

static void qblk_piece_put(struct qblk_rq *qrq, struct qblk_piece *piece)
{
	if (piece != &qrq->first)
		kmem_cache_free(qblk_piece_cache, piece);
}

/* The same for a piece that was never in flight: nothing races with its end */
static void qblk_piece_unget(struct qblk_rq *qrq, struct qblk_piece *piece)
{
	if (piece == &qrq->first)
		qrq->first_used = false;
	else
		qblk_piece_put(qrq, piece);
}

/* Any context, possibly before ->submit() has returned */
static void qblk_piece_end_io(struct qblk_io *io, blk_status_t status)
{
	struct qblk_piece *piece = container_of(io, struct qblk_piece, io);
	struct qblk_rq *qrq = io->private;

	qblk_tracks_release(&io->tracks);
	if (status == BLK_STS_AGAIN) {
		llist_add(&piece->redo, &qrq->redo);
	} else {
		if (status)
			qblk_rq_fail(qrq, status);
		qblk_piece_put(qrq, piece);
	}
	qblk_rq_put(qrq, false);
}

/*
 * Tier 1 pads nothing, and bounces nothing: a device of large blocks takes
 * memory in whole blocks, which a piece out of the middle of a bio need not be.
 * Up to a sector every bio is aligned well enough.
 */
static bool qblk_leaf_takes(const struct qblk_mapping *m, struct bio *bio,
			    struct bvec_iter part)
{
	const struct qblk_limits *lim = &m->node->limits;
	u32 block = lim->request_alignment;
	struct bvec_iter iter;
	struct bio_vec bv;

	if ((m->offset | m->bytes) & (block - 1))
		return false;
	if (block <= SECTOR_SIZE && lim->dma_alignment < SECTOR_SIZE)
		return true;
	__bio_for_each_bvec(bv, bio, iter, part)
		if (bv.bv_offset & lim->dma_alignment ||
		    bv.bv_len & (block - 1))
			return false;
	return true;
}

/*
 * The limits of the disk do not cover a backing file whose leaf takes less at
 * a time.
 */
static u64 qblk_leaf_max(const struct qblk_node *leaf)
{
	const struct qblk_limits *lim = &leaf->limits;

	if (!lim->max_transfer)
		return U64_MAX;
	return round_down(lim->max_transfer, (u64)lim->request_alignment);
}

static bool qblk_leaf_is_in_fs(const struct qblk_node *leaf)
{
	return leaf->fd_file && !S_ISBLK(file_inode(leaf->fd_file)->i_mode);
}

/*
 * A leaf in a file system makes submission enter that file system in the
 * context of whoever submitted the bio.  That must not be a task inside a
 * transaction of the file system above, since journal handles hang off the
 * task, nor one in memory reclaim, nor one which is on its way through another
 * such disk already; nor one with a limit on the size of its files, which
 * would be held against the image.  The worker enters it then.
 *
 * One who submits with REQ_NOWAIT may: the leaf asks with IOCB_NOWAIT whoever
 * submits, which is what io_uring asks of a file itself.  Neither there nor
 * here does it keep anybody from waiting for memory, which he who made the bio
 * has done as well.
 */
static bool qblk_may_enter_fs(struct request *rq)
{
	const unsigned int in_io_path = PF_MEMALLOC | PF_MEMALLOC_NOIO |
					PF_MEMALLOC_NOFS | PF_LOCAL_THROTTLE;

	if (op_is_write(req_op(rq)) && rlimit(RLIMIT_FSIZE) != RLIM_INFINITY)
		return false;
	return !current->journal_info && !(current->flags & in_io_path);
}

static int qblk_leaf_submit_fs(struct qblk_node *leaf, struct qblk_io *io)
{
	unsigned int flags = qblk_io_enter();
	int ret;

	ret = leaf->drv->submit(leaf, io);
	qblk_io_leave(flags);
	return ret;
}

static int qblk_leaf_submit(struct qblk_rq *qrq, struct qblk_node *leaf,
			    struct qblk_io *io)
{
	if (!qblk_leaf_is_in_fs(leaf))
		return leaf->drv->submit(leaf, io);
	if (!qrq->may_enter_fs)
		return -EAGAIN;
	return qblk_leaf_submit_fs(leaf, io);
}

static blk_opf_t qblk_leaf_opf(struct qblk_rq *qrq)
{
	struct request *rq = qblk_rq_request(qrq);
	blk_opf_t opf = rq->cmd_flags & QBLK_PASS_FLAGS;

	/* the submitter does not wait for the worker */
	if (qrq->in_worker)
		opf &= ~REQ_NOWAIT;
	return req_op(rq) | opf;
}

/* The next @bytes at the cursor; with a reference to the request */
static void qblk_piece_init(struct qblk_rq *qrq, struct qblk_piece *piece,
			    unsigned int bytes)
{
	const struct qblk_cursor *cur = &qrq->rest;
	struct qblk_io *io = &piece->io;

	piece->pos = cur->pos;
	piece->iter = qblk_cursor_iter(cur, bytes);
	io->src = cur->bio;
	io->iter = piece->iter;
	io->opf = qblk_leaf_opf(qrq);
	io->end_io = qblk_piece_end_io;
	io->private = qrq;
	atomic_inc(&qrq->pending);
}

/* Accepted, the piece is no longer ours; its reference is not the last. */
static int qblk_piece_sent(struct qblk_rq *qrq, struct qblk_piece *piece,
			   int ret)
{
	if (!ret)
		return 0;
	atomic_dec(&qrq->pending);
	qblk_tracks_release(&piece->io.tracks);
	qblk_piece_unget(qrq, piece);
	return ret;
}

/* Takes over the tracks of @m, whatever it returns */
static int qblk_submit_piece(struct qblk_rq *qrq, struct qblk_cursor *cur,
			     struct qblk_mapping *m)
{
	struct qblk_piece *piece = NULL;
	struct qblk_io *io;

	if (qblk_leaf_takes(m, cur->bio, qblk_cursor_iter(cur, m->bytes)))
		piece = qblk_piece_get(qrq);
	if (!piece) {
		qblk_tracks_release(&m->tracks);
		return -EAGAIN;
	}
	qblk_piece_init(qrq, piece, m->bytes);
	io = &piece->io;
	io->leaf = m->node;
	io->offset = m->offset;
	io->tracks = m->tracks;
	return qblk_piece_sent(qrq, piece, qblk_leaf_submit(qrq, m->node, io));
}

static void qblk_zero_fill(struct bio *bio, struct bvec_iter part)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	__bio_for_each_segment(bv, bio, iter, part)
		memzero_bvec(&bv);
}

/* Takes over the tracks of @m, whatever it returns */
static int qblk_submit_mapping(struct qblk_rq *qrq, struct qblk_mapping *m)
{
	struct qblk_cursor *cur = &qrq->rest;
	bool write = op_is_write(req_op(qblk_rq_request(qrq)));
	unsigned int bytes = m->bytes;
	int ret = 0;

	if (m->type == QBLK_MAP_DATA) {
		ret = qblk_submit_piece(qrq, cur, m);
	} else {
		if (m->type != QBLK_MAP_ZERO || write)
			ret = -EAGAIN;
		else
			qblk_zero_fill(cur->bio, qblk_cursor_iter(cur, bytes));
		qblk_tracks_release(&m->tracks);
	}
	if (ret)
		return ret;
	this_cpu_inc(qblk_rq_export(qrq)->stats->tier1);
	qblk_cursor_advance(cur, bytes);
	return 0;
}

static bool qblk_tracks_same(const struct qblk_tracks *a,
			     const struct qblk_tracks *b)
{
	unsigned int i;

	if (a->nr != b->nr)
		return false;
	for (i = 0; i < a->nr; i++)
		if (a->slot[i].node != b->slot[i].node)
			return false;
	return true;
}

/*
 * @next continues @run on the same leaf.  The tracks of @run then keep the
 * place of both: they were taken first, so whoever frees the place of @next
 * after it was found waits for them as well.
 */
static bool qblk_mapping_joins(const struct qblk_mapping *run,
			       const struct qblk_mapping *next)
{
	return run->type == QBLK_MAP_DATA && next->type == QBLK_MAP_DATA &&
	       run->node == next->node &&
	       run->offset + run->bytes == next->offset &&
	       run->bytes + next->bytes <= qblk_leaf_max(run->node) &&
	       qblk_tracks_same(&run->tracks, &next->tracks);
}

/*
 * Map what follows @done bytes of the current bio.
 *
 * The worker lets reads bring metadata in and sends their data all the same.
 * It does not for writes: what they may bypass is not told when sleeping is
 * allowed, and a write that misses the cache often allocates anyway.
 */
static int qblk_map_rest(struct qblk_rq *qrq, u64 done, struct qblk_mapping *m)
{
	const struct qblk_cursor *cur = &qrq->rest;
	struct qblk_export *exp = qblk_rq_export(qrq);
	unsigned int flags = 0;
	int ret;

	if (op_is_write(req_op(qblk_rq_request(qrq)))) {
		if (exp->small_blocks)
			return -EAGAIN;
		flags = QBLK_MAP_WRITE;
	} else if (qrq->in_worker) {
		flags = QBLK_MAP_MAY_SLEEP;
	}
	ret = qblk_map(exp->root->node, cur->pos + done,
		       cur->iter.bi_size - done, flags, m);
	if (!ret && m->type == QBLK_MAP_DATA)
		m->bytes = min(m->bytes, qblk_leaf_max(m->node));
	return ret;
}

/* Send the current bio; pieces that lie side by side on a leaf go as one */
static int qblk_submit_bio(struct qblk_rq *qrq)
{
	struct qblk_mapping run, next;
	unsigned int left;
	int ret, ret2;

	ret = qblk_map_rest(qrq, 0, &run);
	while (!ret) {
		left = qrq->rest.iter.bi_size - run.bytes;
		if (left)
			ret = qblk_map_rest(qrq, run.bytes, &next);
		if (left && !ret && qblk_mapping_joins(&run, &next)) {
			run.bytes += next.bytes;
			qblk_tracks_release(&next.tracks);
			continue;
		}
		ret2 = qblk_submit_mapping(qrq, &run);
		if (ret2) {
			if (left && !ret)
				qblk_tracks_release(&next.tracks);
			return ret2;
		}
		if (!left || ret)
			break;
		run = next;
	}
	return ret;
}

/*
 * Tier 1.  Return: 0 when nothing is left, -EAGAIN when the rest at the cursor
 * needs tier 2, or an error.
 *
 * This may be a step in flushing the task's plug, whose list of requests must
 * not grow meanwhile; so what leaves send to other disks gets a plug of its
 * own, which also lets them merge what comes from the bios of one request.
 * Preempted between the two, the task has no plug, so it must not look as if
 * its plug had a time to forget.  Finishing the inner one leaves it that way.
 *
 * While a task is in submit_bio(), the bios it submits wait on its bio_list
 * until it returns.  That list is taken away, too: bios on it would end up in
 * the outer plug, and a file system that reads its metadata meanwhile would
 * wait for one of them.  What bounds the recursion is qblk_stack_is_low().
 */
static int qblk_rq_submit(struct qblk_rq *qrq)
{
	struct bio_list *bio_list = current->bio_list;
	struct blk_plug *outer = current->plug;
	struct blk_plug plug;
	int ret = 0;

	current->bio_list = NULL;
	qblk_plug_forget_time(outer);
	current->plug = NULL;
	blk_start_plug(&plug);
	while (!ret && qrq->rest.bio)
		ret = qblk_submit_bio(qrq);
	blk_finish_plug(&plug);
	current->plug = outer;
	current->bio_list = bio_list;
	return ret;
}

/*
 * Disks that stand on each other, whatever lies between them, take the requests
 * of one task down one stack; a worker begins with a fresh one.
 */
static bool qblk_stack_is_low(void)
{
	unsigned long here = (unsigned long)__builtin_frame_address(0);

	return here - (unsigned long)task_stack_page(current) < THREAD_SIZE / 2;
}

/*
 * While a plug is being flushed, sleeping does not flush it.  If it holds only
 * our requests, nothing below waits for them.  But requests for other disks
 * have tags there, and a leaf that waits for such a tag here would wait for
 * its own task.
 */
static bool qblk_plug_is_mixed(const struct blk_plug *plug)
{
	return plug && (plug->multiple_queues || !list_empty(&plug->cb_list));
}

static unsigned int qblk_count_bvecs(struct bio *bio, struct bvec_iter part)
{
	unsigned int nr = 0;
	struct bvec_iter iter;
	struct bio_vec bv;

	__bio_for_each_bvec(bv, bio, iter, part)
		nr++;
	return nr;
}

/* Tier 2 of a part of a bio at @pos of the disk */
static int qblk_rw_blocking(struct qblk_rq *qrq, struct bio *bio,
			    struct bvec_iter part, u64 pos)
{
	struct request *rq = qblk_rq_request(qrq);
	struct qblk_export *exp = qblk_rq_export(qrq);
	bool write = op_is_write(req_op(rq));
	struct iov_iter iter;

	if (READ_ONCE(exp->dead))
		return -EIO;
	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST,
		      __bvec_iter_bvec(bio->bi_io_vec, part),
		      qblk_count_bvecs(bio, part), part.bi_size);
	/* a split bio may begin inside a bvec */
	iter.iov_offset = part.bi_bvec_done;
	if (!write)
		return qblk_preadv(exp->root, pos, part.bi_size, &iter, 0);
	return qblk_pwritev(exp->root, pos, part.bi_size, &iter,
			    rq->cmd_flags & REQ_FUA ? QBLK_REQ_FUA : 0);
}

/* Tier 2 of what is left of the current bio, if that need not be waited for */
static int qblk_start_rest(struct qblk_rq *qrq)
{
	struct qblk_export *exp = qblk_rq_export(qrq);
	struct qblk_cursor *cur = &qrq->rest;
	struct qblk_piece *piece;

	if (!op_is_write(req_op(qblk_rq_request(qrq))) || READ_ONCE(exp->dead))
		return -EAGAIN;
	piece = qblk_piece_get(qrq);
	if (!piece)
		return -EAGAIN;
	qblk_piece_init(qrq, piece, cur->iter.bi_size);
	piece->io.leaf = exp->root->node;
	piece->io.offset = cur->pos;
	piece->io.tracks.nr = 0;
	return qblk_piece_sent(qrq, piece,
			       qblk_start_pwritev(exp->root, &piece->io));
}

static void qblk_work_redo(struct qblk_rq *qrq)
{
	struct llist_node *list = llist_del_all(&qrq->redo);
	struct qblk_piece *piece, *tmp;
	int ret;

	llist_for_each_entry_safe(piece, tmp, list, redo) {
		if (!READ_ONCE(qrq->status)) {
			ret = qblk_rw_blocking(qrq, piece->io.src, piece->iter,
					       piece->pos);
			if (ret)
				qblk_rq_fail(qrq, errno_to_blk_status(ret));
		}
		qblk_piece_put(qrq, piece);
	}
}

/*
 * Sending is tried again: here it may sleep, and after an allocating write
 * much of what follows may be an overwrite.  What cannot be sent, up to the end
 * of its bio, is done with blocking calls.
 */
static int qblk_work_rw(struct qblk_rq *qrq)
{
	struct qblk_cursor *cur = &qrq->rest;
	int ret = 0;

	while (!ret && cur->bio && !READ_ONCE(qrq->status)) {
		ret = qblk_rq_submit(qrq);
		if (ret != -EAGAIN)
			break;
		ret = qblk_start_rest(qrq);
		if (ret == -EAGAIN)
			ret = qblk_rw_blocking(qrq, cur->bio, cur->iter,
					       cur->pos);
		if (!ret)
			qblk_cursor_advance(cur, cur->iter.bi_size);
		cond_resched();
	}
	return ret;
}

static int qblk_work_op(struct qblk_rq *qrq)
{
	struct request *rq = qblk_rq_request(qrq);
	struct qblk_export *exp = qblk_rq_export(qrq);
	u64 pos = (u64)blk_rq_pos(rq) << SECTOR_SHIFT;
	unsigned int flags = 0;

	switch (req_op(rq)) {
	case REQ_OP_FLUSH:
		return qblk_flush(exp->root);
	case REQ_OP_DISCARD:
		return qblk_pdiscard(exp->root, pos, blk_rq_bytes(rq));
	case REQ_OP_WRITE_ZEROES:
		if (!(rq->cmd_flags & REQ_NOUNMAP))
			flags |= QBLK_REQ_MAY_UNMAP;
		if (rq->cmd_flags & REQ_FUA)
			flags |= QBLK_REQ_FUA;
		return qblk_pwrite_zeroes(exp->root, pos, blk_rq_bytes(rq),
					  flags);
	default:
		return qblk_work_rw(qrq);
	}
}

/*
 * Tier 2.  On each visit nothing is left to be done again, whatever becomes of
 * the request: what is left brings it back.
 */
static void qblk_rq_work(struct work_struct *work)
{
	struct qblk_rq *qrq = container_of(work, struct qblk_rq, work);
	unsigned int flags = qblk_io_enter();
	int ret = 0;

	qrq->in_worker = true;
	qrq->may_enter_fs = true;
	if (READ_ONCE(qblk_rq_export(qrq)->dead))
		qblk_rq_fail(qrq, BLK_STS_IOERR);
	qblk_work_redo(qrq);
	if (!READ_ONCE(qrq->status))
		ret = qblk_work_op(qrq);
	if (ret)
		qblk_rq_fail(qrq, errno_to_blk_status(ret));
	qblk_io_leave(flags);
	qblk_rq_put(qrq, true);
}

static void qblk_rq_start(struct qblk_rq *qrq)
{
	struct request *rq = qblk_rq_request(qrq);

	blk_mq_start_request(rq);
	atomic_set(&qrq->pending, 1);
	qrq->status = BLK_STS_OK;
	qrq->in_worker = false;
	qrq->may_enter_fs = false;
	qrq->first_used = false;
	init_llist_head(&qrq->redo);
}

/*
 * kblockd runs the queues of the disks below, too.  It must not wait for them:
 * without memory for another worker nobody would run them.
 */
static bool qblk_in_kblockd(struct blk_mq_hw_ctx *hctx)
{
	return current_work() == &hctx->run_work.work;
}

static bool qblk_may_submit(struct qblk_rq *qrq, struct blk_mq_hw_ctx *hctx)
{
	if (qblk_stack_is_low())
		return false;
	return !qblk_rq_export(qrq)->may_sleep ||
	       !(qblk_plug_is_mixed(current->plug) || qblk_in_kblockd(hctx));
}

static void qblk_queue_rw(struct qblk_rq *qrq, struct blk_mq_hw_ctx *hctx)
{
	struct request *rq = qblk_rq_request(qrq);
	int ret = -EAGAIN;

	qblk_cursor_start(&qrq->rest, rq);
	qrq->may_enter_fs = qblk_may_enter_fs(rq);
	if (qblk_may_submit(qrq, hctx))
		ret = qblk_rq_submit(qrq);
	if (ret == -EAGAIN) {
		/* our reference is the worker's now */
		qblk_rq_queue_work(qrq);
		return;
	}
	if (ret)
		qblk_rq_fail(qrq, errno_to_blk_status(ret));
	qblk_rq_put(qrq, true);
}

/*
 * Runs under rcu_read_lock(), unless the queue is BLK_MQ_F_BLOCKING, as it is
 * when a leaf's ->submit() may sleep.  Nothing is ever refused for lack of a
 * resource, so there is no requeueing.
 */
static blk_status_t qblk_queue_rq(struct blk_mq_hw_ctx *hctx,
				  const struct blk_mq_queue_data *bd)
{
	struct request *rq = bd->rq;
	struct qblk_export *exp = rq->q->queuedata;
	struct qblk_rq *qrq = blk_mq_rq_to_pdu(rq);

	if (READ_ONCE(exp->dead))
		return BLK_STS_IOERR;
	/* the block layer only warns about this */
	if (exp->read_only && op_is_write(req_op(rq)))
		return BLK_STS_IOERR;

	switch (req_op(rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		qblk_rq_start(qrq);
		qblk_queue_rw(qrq, hctx);
		return BLK_STS_OK;
	case REQ_OP_FLUSH:
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		qblk_rq_start(qrq);
		if (exp->read_only)
			qblk_rq_put(qrq, true);
		else
			qblk_rq_queue_work(qrq);
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}
}

static int qblk_init_request(struct blk_mq_tag_set *set, struct request *rq,
			     unsigned int hctx_idx, unsigned int numa_node)
{
	struct qblk_rq *qrq = blk_mq_rq_to_pdu(rq);

	INIT_WORK(&qrq->work, qblk_rq_work);
	return 0;
}

/*
 * There is no ->timeout(): a request whose leaf takes long is not completed
 * behind the leaf's back, since the leaf still has its pages.  The block layer
 * starts the timer again.
 */
const struct blk_mq_ops qblk_mq_ops = {
	.queue_rq	= qblk_queue_rq,
	.complete	= qblk_complete_rq,
	.init_request	= qblk_init_request,
};

int qblk_queue_init(void)
{
	qblk_piece_cache = KMEM_CACHE(qblk_piece, SLAB_HWCACHE_ALIGN);
	return qblk_piece_cache ? 0 : -ENOMEM;
}

void qblk_queue_exit(void)
{
	kmem_cache_destroy(qblk_piece_cache);
}
