/* A line between two TAP devices: it carries Ethernet frames with a delay, and loses some of them.
 *
 *     line NEAR FAR SILENT BITS    descriptors of the two devices; a network (as in 198.18.0.0 18) where nobody answers
 *
 * Standard input takes one command a line, and each is answered by one line of JSON:
 *     quality RTT_MS LOSS SEED     half of the time each way, the share lost each way; counts from zero
 *     counts                       what has passed since
 * It ends with its standard input. ARP is delayed and never lost: it is no part of what is measured.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { OUT, BACK, WAYS, BATCH = 64, FRAME = 2048, MOST_WAITING = 400000 };

struct frame {
    uint64_t due;
    struct frame *next;
    int length;
    unsigned char data[];
};

struct way {
    struct frame *first, *last;
    long waiting;
    unsigned long packets, bytes, lost, silent, full; /* what came in, and what of it went no further */
};

static struct way ways[WAYS];
static uint64_t half = 20000000, chance = 1; /* nanoseconds; the state of the lots */
static double loss;
static uint32_t silent, mask;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double lot(void) { /* xorshift64* (Vigna 2016), 0 <= lot < 1 */
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return (double)((chance * 2685821657736338717u) >> 11) / 9007199254740992.0;
}

static void take(struct way *way, int to_sites, const unsigned char *data, int length) {
    int ip = length >= 34 && data[12] == 8 && data[13] == 0;
    if (length < 14 || (data[12] == 0x86 && data[13] == 0xdd)) return; /* IPv6 has no part in this */
    if (ip) {
        uint32_t to;
        way->packets++;
        way->bytes += (unsigned long)length;
        memcpy(&to, data + 30, 4);
        if (to_sites && (ntohl(to) & mask) == silent) {
            way->silent++;
            return;
        }
        if (loss > 0 && lot() < loss) {
            way->lost++;
            return;
        }
    }
    struct frame *frame = way->waiting < MOST_WAITING ? malloc(sizeof *frame + (size_t)length) : NULL;
    if (frame == NULL) {
        way->full++;
        return;
    }
    frame->due = now() + half;
    frame->next = NULL;
    frame->length = length;
    memcpy(frame->data, data, (size_t)length);
    if (way->last) way->last->next = frame;
    else way->first = frame;
    way->last = frame;
    way->waiting++;
}

static void give(struct way *way, int to) {
    uint64_t time = now();
    while (way->first && way->first->due <= time) {
        struct frame *frame = way->first;
        if (write(to, frame->data, (size_t)frame->length) != frame->length) way->full++;
        way->first = frame->next;
        if (!way->first) way->last = NULL;
        way->waiting--;
        free(frame);
    }
}

static void tell(void) {
    static const char *const names[WAYS] = {"out", "back"};
    for (int i = 0; i < WAYS; i++)
        printf("%s\"%s\": {\"packets\": %lu, \"bytes\": %lu, \"lost\": %lu, \"silent\": %lu, \"full\": %lu}",
               i ? ", " : "{", names[i], ways[i].packets, ways[i].bytes, ways[i].lost, ways[i].silent, ways[i].full);
    printf("}\n");
    fflush(stdout);
}

/* Reads one command; 0 at the end of the input. */
static int obey(void) {
    char text[128];
    double rtt, share;
    unsigned long long seed;
    ssize_t length = read(0, text, sizeof text - 1); /* whoever commands waits for the answer before the next */
    if (length <= 0) return 0;
    text[length] = 0;
    if (sscanf(text, "quality %lf %lf %llu", &rtt, &share, &seed) == 3) {
        half = (uint64_t)(rtt * 500000.0);
        loss = share;
        chance = seed * 2654435769u + 1;
        for (int i = 0; i < WAYS; i++)
            ways[i].packets = ways[i].bytes = ways[i].lost = ways[i].silent = ways[i].full = 0;
    }
    tell();
    return 1;
}

int main(int count, char **words) {
    struct in_addr network;
    unsigned char data[FRAME];
    if (count != 5 || !inet_aton(words[3], &network)) return 2;
    int handles[WAYS] = {atoi(words[1]), atoi(words[2])};
    mask = 0xffffffffu << (32 - atoi(words[4]));
    silent = ntohl(network.s_addr) & mask;
    prctl(PR_SET_TIMERSLACK, 1000);
    for (;;) {
        struct pollfd polled[3] = {{handles[OUT], POLLIN, 0}, {handles[BACK], POLLIN, 0}, {0, POLLIN, 0}};
        uint64_t time = now(), due = time + 1000000000u;
        for (int i = 0; i < WAYS; i++)
            if (ways[i].first && ways[i].first->due < due) due = ways[i].first->due;
        uint64_t wait = due > time ? due - time : 0;
        struct timespec timeout = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};
        if (ppoll(polled, 3, &timeout, NULL) < 0 && errno != EINTR) return 1;
        if (polled[2].revents && !obey()) return 0;
        for (int i = 0; i < WAYS; i++) {
            for (int one = 0; polled[i].revents & POLLIN && one < BATCH; one++) {
                ssize_t length = read(handles[i], data, sizeof data);
                if (length <= 0) break;
                take(&ways[i], i == OUT, data, (int)length);
            }
            give(&ways[i], handles[!i]);
        }
    }
}
