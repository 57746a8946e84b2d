/* vfio_edu: uses QEMU's edu device through VFIO as a virtual machine would use a passed device.
 *
 *   vfio_edu use PCI   identity and liveness registers through the mapped BAR; a DMA round trip,
 *                      memory -> device -> other memory; DMA outside what was mapped must not
 * arrive vfio_edu hold PCI  opens the device, says "held" and waits for its stdin to end
 *
 * The device: docs/specs/edu.txt of QEMU. Exit status 0: everything was as it should be. */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    EDU_ID = 0x00, /* 0xRRrr00ed: version, and ed */
    EDU_LIVENESS = 0x04,
    EDU_DMA_FROM = 0x80,
    EDU_DMA_TO = 0x88,
    EDU_DMA_BYTES = 0x90,
    EDU_DMA_COMMAND = 0x98,
    EDU_DMA_START = 1,
    EDU_DMA_TO_MEMORY = 2,
    EDU_BUFFER = 0x40000, /* of 4096 bytes, in the device's own addresses */
    PCI_COMMAND = 0x04,
    PCI_MEMORY_AND_MASTER = 0x06,
    PAGE_BYTES = 4096,
    BYTES = 2048,    /* copied: QEMU 7.2 refuses a copy of the whole buffer */
    IOVA = 0x100000, /* the device has 28 address bits */
    IOVA_UNMAPPED = 0x900000
};

static void give_up(const char *what) {
    perror(what);
    exit(1);
}

static void expect(int true_or_not, const char *what) {
    printf("%s %s\n", true_or_not ? "ok  " : "FAIL", what);
    if (!true_or_not) exit(1);
}

struct edu {
    int container, device;
    volatile uint8_t *bar;
    uint64_t config; /* where its configuration space is in `device` */
};

static void edu_open(struct edu *edu, const char *address) {
    char path[128];
    char target[256];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", address);
    ssize_t length = readlink(path, target, sizeof target - 1);
    if (length < 0) give_up(path);
    target[length] = '\0';
    snprintf(path, sizeof path, "/dev/vfio/%.32s", strrchr(target, '/') + 1);

    edu->container = open("/dev/vfio/vfio", O_RDWR);
    if (edu->container < 0) give_up("/dev/vfio/vfio");
    int group = open(path, O_RDWR);
    if (group < 0) give_up(path);
    struct vfio_group_status status = {.argsz = sizeof status};
    if (ioctl(group, VFIO_GROUP_GET_STATUS, &status) != 0) give_up("group status");
    expect((status.flags & VFIO_GROUP_FLAGS_VIABLE) != 0, "the whole group belongs to vfio");
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &edu->container) != 0) give_up("container");
    if (ioctl(edu->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) give_up("IOMMU");
    edu->device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
    if (edu->device < 0) give_up("device");

    struct vfio_region_info config = {.argsz = sizeof config,
                                      .index = VFIO_PCI_CONFIG_REGION_INDEX};
    if (ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &config) != 0) give_up("configuration");
    edu->config = config.offset;
    uint16_t command = PCI_MEMORY_AND_MASTER;
    if (pwrite(edu->device, &command, sizeof command, (off_t)(edu->config + PCI_COMMAND)) !=
        sizeof command)
        give_up("PCI command register");

    struct vfio_region_info bar = {.argsz = sizeof bar, .index = VFIO_PCI_BAR0_REGION_INDEX};
    if (ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &bar) != 0) give_up("BAR 0");
    edu->bar =
        mmap(NULL, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, edu->device, (off_t)bar.offset);
    if (edu->bar == MAP_FAILED) give_up("mapping BAR 0");
}

static uint32_t edu_read(struct edu *edu, uint32_t at) {
    return *(volatile uint32_t *)(edu->bar + at);
}

static void edu_write(struct edu *edu, uint32_t at, uint32_t value) {
    *(volatile uint32_t *)(edu->bar + at) = value;
}

/* The device copies about a tenth of a second after it was told to. */
static void edu_copy(struct edu *edu, uint32_t from, uint32_t to, uint32_t command) {
    edu_write(edu, EDU_DMA_FROM, from);
    edu_write(edu, EDU_DMA_TO, to);
    edu_write(edu, EDU_DMA_BYTES, BYTES);
    edu_write(edu, EDU_DMA_COMMAND, EDU_DMA_START | command);
    for (int i = 0; i < 3000 && (edu_read(edu, EDU_DMA_COMMAND) & EDU_DMA_START) != 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    expect((edu_read(edu, EDU_DMA_COMMAND) & EDU_DMA_START) == 0, "a copy ends");
}

static void edu_use(struct edu *edu) {
    expect((edu_read(edu, EDU_ID) & 0xffff) == 0x00ed, "the BAR has the device's identity");
    edu_write(edu, EDU_LIVENESS, 0x12345678);
    expect(edu_read(edu, EDU_LIVENESS) == ~0x12345678u, "the device inverts what it is given");

    uint8_t *memory =
        mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) give_up("memory");
    uint8_t *back = memory + PAGE_BYTES;
    for (uint32_t i = 0; i < BYTES; i++) memory[i] = (uint8_t)(i * 7 + i / 256);
    struct vfio_iommu_type1_dma_map map = {.argsz = sizeof map,
                                           .flags =
                                               VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                           .vaddr = (uintptr_t)memory,
                                           .iova = IOVA,
                                           .size = 2 * PAGE_BYTES};
    if (ioctl(edu->container, VFIO_IOMMU_MAP_DMA, &map) != 0) give_up("mapping for DMA");
    edu_copy(edu, IOVA, EDU_BUFFER, 0);
    edu_copy(edu, EDU_BUFFER, IOVA + PAGE_BYTES, EDU_DMA_TO_MEMORY);
    expect(memcmp(memory, back, BYTES) == 0, "what went in by DMA comes back by DMA");

    memset(back, 0xaa, BYTES);
    edu_copy(edu, EDU_BUFFER, IOVA_UNMAPPED, EDU_DMA_TO_MEMORY);
    edu_copy(edu, IOVA_UNMAPPED, EDU_BUFFER, 0);
    edu_copy(edu, EDU_BUFFER, IOVA + PAGE_BYTES, EDU_DMA_TO_MEMORY);
    expect(memcmp(memory, back, BYTES) != 0, "what is not mapped cannot be read by the device");
}

int main(int argc, char **argv) {
    struct edu edu = {0};
    if (argc != 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    edu_open(&edu, argv[2]);
    if (strcmp(argv[1], "use") == 0) {
        edu_use(&edu);
        return 0;
    }
    puts("held");
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    return 0;
}
