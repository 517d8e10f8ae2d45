/* What the parts of the test guest share: types, ports, the console, and the configuration space of PCI functions. */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outw(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 inb(u16 port) { u8 v; __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u16 inw(u16 port) { u16 v; __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port)); return v; }
static inline u32 inl(u16 port) { u32 v; __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port)); return v; }

enum { PCI = 0xcf8 };

void put(char c);
void print(const char *text);
void hex(u32 value, int digits);
void decimal(u32 value);
/* The decimal number that a text begins with. */
u32 number(const char *text);
/* Whether something was typed that nobody has read yet. */
int is_typed(void);
/* Four bytes of the configuration space of a function: its number is bus << 8 | slot << 3 | function. */
u32 pci_read(u32 function, u32 offset);
void pci_write(u32 function, u32 offset, u32 value);

/* A command for a network card; see net.c. */
void run_net(const char *line);
