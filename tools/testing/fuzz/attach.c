// SPDX-License-Identifier: GPL-2.0
/*
 * Attaches the images of an archive, one after the other, and uses the disks.
 *
 *   attach DIRECTORY ARCHIVE SCRATCH
 *
 * The archive and the samples with their contents are in a directory, as
 * archive.py made them.  Says in lines what it begins with, and what is wrong:
 *
 *   image NUMBER|SAMPLE
 *   wrong TEXT
 *   count NUMBER WHAT
 *
 * Each sample has one file, which stays open and mapped.  What an image has
 * that differs is written to it, and what any request has changed is put back:
 * a guest that is emulated copies slowly.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "libqblk.h"

#define ALIGN8(x)	(((x) + 7) & ~7ULL)
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define BLOCK		4096
#define PIECE		(256 * 1024)
#define AREA		(2 * 1024 * 1024)

/* As archive.py writes it, all of it a multiple of 8 long */
struct archive {
	uint32_t samples;
	uint32_t images;
};

/* Patches of zeroes follow: what is in the file, and what that reads as. */
struct contents {
	char name[16];
	uint32_t size;
	uint32_t flat_size;
	uint32_t patches;
	uint32_t flat_patches;
};

#define GOOD		1	/* as QEMU made it, reads as it has to */
#define BACKING		2	/* has a backing file */
#define EXTERNAL	4	/* has a data file */
#define FOR_READING	8	/* attach it so */
#define FOR_WRITING	16

struct image {
	uint32_t number;
	uint32_t sample;
	uint32_t size;
	uint32_t flags;
	uint32_t patches;
	uint32_t ops;
};

struct patch {
	uint32_t at;
	uint32_t length;
	uint8_t data[];		/* padded */
};

enum what { READ, WRITE, DISCARD, ZERO, PUNCH, FLUSH };

struct op {
	uint32_t what;
	uint32_t length;
	uint64_t start;
};

struct sample {
	const char *name;
	int fd;
	size_t size;
	uint8_t *data;		/* what the file has to hold */
	uint8_t *map;		/* what it holds */
	uint8_t *flat;
};

/* Others attach, too: a name is soon used again, @seq never is. */
struct disk {
	char name[32];
	int fd;
	uint64_t seq;
	uint64_t size;
};

/* What is counted, and where the time goes */
enum count { REFUSED_RO, REFUSED_RW, ATTACHED_RO, ATTACHED_RW, EMPTY, FORCED,
	     REQUESTS, FAILED, MS_ATTACH, MS_USE, MS_DETACH, MS_FILE, COUNTS };

static const char *const count_names[] = {
	"ro refused", "rw refused", "ro attached", "rw attached", "empty",
	"forced", "requests", "failed requests", "ms to attach", "ms to use",
	"ms to detach", "ms for the file",
};

static uint64_t counts[COUNTS];
static struct qblk_sock *sock;
static struct sample *samples;
static int backing_fd, data_fd;
static const char *directory, *scratch;
static uint8_t *read_buf, *write_buf;

static void wrong(const char *fmt, ...)
{
	char text[QBLK_ERROR_LEN];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	printf("wrong %s\n", text);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static uint64_t spent(enum count what, uint64_t since)
{
	uint64_t now = now_us();

	counts[what] += now - since;
	return now;
}

/* Files */

static int open_at(const char *where, const char *name, int flags)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", where, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static uint8_t *load(const char *name, size_t *size)
{
	int fd = open_at(directory, name, O_RDONLY);
	struct stat st;
	uint8_t *data;
	size_t done;
	ssize_t n;

	if (fstat(fd, &st))
		err(1, "%s", name);
	*size = st.st_size;
	data = malloc(*size + 1);
	if (!data)
		err(1, "%s", name);
	for (done = 0; done < *size; done += n) {
		n = read(fd, data + done, *size - done);
		if (n <= 0)
			err(1, "%s", name);
	}
	close(fd);
	return data;
}

/* Only what is not zero is written. */
static int store(const char *name, const uint8_t *data, size_t size)
{
	static const uint8_t zero[BLOCK];
	int fd = open_at(scratch, name, O_RDWR | O_CREAT | O_TRUNC);
	size_t at, n;

	if (ftruncate(fd, size))
		err(1, "%s", name);
	for (at = 0; at < size; at += n) {
		n = MIN(size - at, BLOCK);
		if (memcmp(data + at, zero, n) &&
		    pwrite(fd, data + at, n, at) != (ssize_t)n)
			err(1, "%s", name);
	}
	return fd;
}

static int store_copy(const char *name)
{
	size_t size;
	uint8_t *data = load(name, &size);
	int fd = store(name, data, size);

	free(data);
	return fd;
}

static const void *unpack(const void *at, uint32_t patches, uint8_t *data)
{
	const struct patch *patch;

	for (; patches; patches--) {
		patch = at;
		memcpy(data + patch->at, patch->data, patch->length);
		at = patch->data + ALIGN8(patch->length);
	}
	return at;
}

/* Returns the next one. */
static const void *open_sample(struct sample *s, const struct contents *c)
{
	const void *at;

	s->name = c->name;
	s->size = c->size;
	s->data = calloc(1, c->size);
	s->flat = calloc(1, c->flat_size);
	if (!s->data || !s->flat)
		err(1, "%s", s->name);
	at = unpack(c + 1, c->patches, s->data);
	at = unpack(at, c->flat_patches, s->flat);
	s->fd = store(s->name, s->data, s->size);
	s->map = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd,
		      0);
	if (s->map == MAP_FAILED)
		err(1, "%s", s->name);
	return at;
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t n)
{
	uint8_t t;

	for (; n; n--, a++, b++) {
		t = *a;
		*a = *b;
		*b = t;
	}
}

/* Exchanges what the patches hold and what the sample held: done, or undone. */
static const void *exchange(struct sample *s, const struct image *image)
{
	uint8_t *at = (uint8_t *)(image + 1);
	struct patch *patch;
	uint32_t n;

	for (n = 0; n < image->patches; n++) {
		patch = (struct patch *)at;
		swap_bytes(s->data + patch->at, patch->data, patch->length);
		at = patch->data + ALIGN8(patch->length);
	}
	return at;
}

/* Blocks that a request changed, and those that differ between images. */
static void fill(struct sample *s, size_t size)
{
	size_t at, n;

	/* Whole first: behind its end the file is not there for the map. */
	if (ftruncate(s->fd, s->size))
		err(1, "%s", s->name);
	for (at = 0; at < s->size; at += n) {
		n = MIN(s->size - at, BLOCK);
		if (memcmp(s->map + at, s->data + at, n))
			memcpy(s->map + at, s->data + at, n);
	}
	if (size != s->size && ftruncate(s->fd, size))
		err(1, "%s", s->name);
}

static bool unchanged(const struct sample *s, size_t size)
{
	struct stat st;

	return !fstat(s->fd, &st) && (size_t)st.st_size == size &&
	       !memcmp(s->map, s->data, size);
}

/* Disks */

static uint32_t add_leaf(struct qblk_graph *g, int fd, const char *label,
			 bool read_only, struct qblk_error *error)
{
	int n = qblk_graph_add(g, "file", label, dup(fd), error);

	if (n < 0 || (read_only && qblk_def_option(&g->defs[n], "read-only",
						   "on", error)))
		errx(1, "%s", error->text);
	return n;
}

/* Backing and data files are there if the header has them. */
static void make_graph(struct qblk_graph *g, const struct image *image,
		       bool ro, struct qblk_error *error)
{
	uint32_t file, top, data = QBLK_NO_CHILD, backing = QBLK_NO_CHILD;
	struct qblk_def *def;

	file = add_leaf(g, samples[image->sample].fd, "image", ro, error);
	if (image->flags & EXTERNAL)
		data = add_leaf(g, data_fd, "data", ro, error);
	if (image->flags & BACKING) {
		add_leaf(g, backing_fd, "backing", true, error);
		backing = qblk_graph_add(g, "raw", NULL, -1, error);
		qblk_def_child(&g->defs[backing], "file", NULL, backing - 1,
			       error);
		qblk_def_option(&g->defs[backing], "read-only", "on", error);
	}
	top = qblk_graph_add(g, "qcow2", NULL, -1, error);
	def = &g->defs[top];
	qblk_def_child(def, "file", NULL, file, error);
	if (data != QBLK_NO_CHILD)
		qblk_def_child(def, "data-file", NULL, data, error);
	qblk_def_child(def, "backing", NULL, backing, error);
	if (ro)
		qblk_def_option(def, "read-only", "on", error);
}

/* False if it is refused. */
static bool attach(const struct image *image, bool ro, struct disk *disk)
{
	struct qblk_export_params p = {
		.read_only = ro,
		.no_partscan = true,
		/* Requests are made with the disk, and one is used at a time. */
		.queues = 1,
		.queue_depth = 8,
	};
	struct qblk_error error = {};
	struct json_object *reply;
	struct qblk_graph g = {};

	make_graph(&g, image, ro, &error);
	reply = qblk_export_add(sock, &g, &p, &error);
	qblk_graph_free(&g);
	if (!reply) {
		if (!*error.text)
			wrong("refused without a word");
		return false;
	}
	snprintf(disk->name, sizeof(disk->name), "%s",
		 qblk_get_str(reply, "disk"));
	json_object_put(reply);
	return true;
}

static bool is_there(const struct disk *disk)
{
	unsigned long long seq = 0;
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/diskseq", disk->name);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (fscanf(f, "%llu", &seq) != 1)
		seq = 0;
	fclose(f);
	return seq == disk->seq;
}

/* A last flush may fail; the disk goes away all the same. */
static void detach(const struct disk *disk)
{
	struct qblk_error error = {};

	if (qblk_export_del(sock, disk->name, NULL, QBLK_DETACH_MODE_SYNC,
			    &error)) {
		counts[FORCED]++;
		if (!*error.text)
			wrong("detach refused without a word");
		if (qblk_export_del(sock, disk->name, NULL,
				    QBLK_DETACH_MODE_FORCE, &error))
			wrong("detach: %s", error.text);
	}
	if (is_there(disk))
		wrong("%s is left", disk->name);
}

/* Requests */

static int do_op(const struct disk *disk, const struct op *op)
{
	uint64_t range[] = { op->start, op->length };
	ssize_t n = op->length;

	switch ((enum what)op->what) {
	case READ:
		n = pread(disk->fd, read_buf, op->length, op->start);
		break;
	case WRITE:
		n = pwrite(disk->fd, write_buf, op->length, op->start);
		break;
	case DISCARD:
		return ioctl(disk->fd, BLKDISCARD, range);
	case ZERO:
		return ioctl(disk->fd, BLKZEROOUT, range);
	case PUNCH:
		return fallocate(disk->fd,
				 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 op->start, op->length);
	case FLUSH:
		return fsync(disk->fd);
	}
	if (n >= 0 && n != op->length)
		wrong("op %u at %llu: %zd bytes of %u", op->what,
		      (unsigned long long)op->start, n, op->length);
	return n < 0 ? -1 : 0;
}

static bool request(const struct disk *disk, const struct op *op)
{
	if (!do_op(disk, op)) {
		counts[REQUESTS]++;
		return true;
	}
	counts[FAILED]++;
	if (errno != EIO && errno != ENOSPC && errno != EOPNOTSUPP)
		wrong("op %u at %llu: %s", op->what,
		      (unsigned long long)op->start, strerror(errno));
	return false;
}

/* Where the whole does not read, some of its parts. */
static bool read_piece(const struct disk *disk, uint64_t start,
		       uint32_t length)
{
	struct op op = { READ, length, start };

	if (request(disk, &op))
		return true;
	op.length = 512;
	for (; op.start < start + length; op.start += PIECE / 4)
		request(disk, &op);
	return false;
}

/* flat is what it has to read as, or NULL. */
static void read_all(const struct disk *disk, const uint8_t *flat)
{
	uint64_t area = MIN(disk->size, AREA), at;
	uint32_t n;
	bool ok;

	for (at = 0; at < area; at += n) {
		n = MIN(area - at, PIECE);
		ok = read_piece(disk, at, n);
		if (flat && (!ok || memcmp(read_buf, flat + at, n)))
			wrong("reads wrong at %llu", (unsigned long long)at);
	}
}

static void do_ops(const struct disk *disk, const struct image *image,
		   const struct op *op)
{
	uint32_t n;

	for (n = 0; n < image->ops; n++, op++)
		if (op->start + op->length <= disk->size)
			request(disk, op);
}

static void use(struct disk *disk, const struct image *image, bool ro,
		const struct op *ops)
{
	const uint8_t *flat = NULL;

	disk->fd = open_at("/dev", disk->name,
			   O_DIRECT | (ro ? O_RDONLY : O_RDWR));
	if (ioctl(disk->fd, BLKGETSIZE64, &disk->size) ||
	    ioctl(disk->fd, BLKGETDISKSEQ, &disk->seq))
		err(1, "%s", disk->name);
	if (!disk->size)
		counts[EMPTY]++;
	if (image->flags & GOOD)
		flat = samples[image->sample].flat;
	if (!ro)
		do_ops(disk, image, ops);
	read_all(disk, flat);
	close(disk->fd);
}

static void one_mode(const struct image *image, bool ro, const struct op *ops)
{
	struct sample *s = &samples[image->sample];
	uint64_t t = now_us();
	struct disk disk;

	fill(s, image->size);
	t = spent(MS_FILE, t);
	if (!attach(image, ro, &disk)) {
		counts[ro ? REFUSED_RO : REFUSED_RW]++;
		spent(MS_ATTACH, t);
		return;
	}
	counts[ro ? ATTACHED_RO : ATTACHED_RW]++;
	t = spent(MS_ATTACH, t);
	use(&disk, image, ro, ops);
	t = spent(MS_USE, t);
	detach(&disk);
	t = spent(MS_DETACH, t);
	if (ro && !unchanged(s, image->size))
		wrong("a read-only attach changed the image");
	spent(MS_FILE, t);
}

/* Returns the next one. */
static const void *one_image(const struct image *image)
{
	struct sample *s = &samples[image->sample];
	const struct op *ops;

	if (image->flags & GOOD)
		printf("image %s\n", s->name);
	else
		printf("image %u\n", image->number);
	ops = exchange(s, image);
	if (image->flags & FOR_READING)
		one_mode(image, true, ops);
	if (image->flags & FOR_WRITING)
		one_mode(image, false, ops);
	exchange(s, image);
	return ops + image->ops;
}

static void prepare(void)
{
	struct qblk_error error = {};

	setvbuf(stdout, NULL, _IOLBF, 0);
	sock = qblk_open(&error);
	if (!sock)
		errx(1, "%s", error.text);
	backing_fd = store_copy("backing.raw");
	data_fd = store_copy("data.raw");
	if (posix_memalign((void **)&read_buf, BLOCK, PIECE) ||
	    posix_memalign((void **)&write_buf, BLOCK, PIECE))
		errx(1, "no memory");
	memset(write_buf, 0xa5, PIECE);
}

static void say_counts(void)
{
	int n;

	for (n = 0; n < COUNTS; n++)
		printf("count %llu %s\n", (unsigned long long)
		       (n < MS_ATTACH ? counts[n] : counts[n] / 1000),
		       count_names[n]);
}

int main(int argc, char **argv)
{
	const struct archive *archive;
	const void *at;
	uint32_t n;
	size_t size;

	if (argc != 4)
		errx(2, "usage: attach DIRECTORY ARCHIVE SCRATCH");
	directory = argv[1];
	scratch = argv[3];
	prepare();
	archive = (const void *)load(argv[2], &size);
	samples = calloc(archive->samples, sizeof(*samples));
	at = archive + 1;
	for (n = 0; n < archive->samples; n++)
		at = open_sample(&samples[n], at);
	for (n = 0; n < archive->images; n++)
		at = one_image(at);
	say_counts();
	return 0;
}
