/* Firmware that works without end, for guests that move. Each round it writes its number and the page's address into every
 * page from 1 to 3 MiB, after a look whether the number of the round before is still there, and prints "B", the number in
 * eight hexadecimal digits and a newline on the first serial port. "X" in place of "B" means that something was lost. */

        .set FIRST, 0x100000
        .set LAST, 0x300000
        .set KEPT, 0x13579bdf

        .code16
        .globl _start
_start:
        cli
        cld
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   gdt_pointer - _start
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $8, $protected

        .code32
protected:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x8000, %esp
        movl    $KEPT, %edi             /* a register that must survive */
        xorl    %ebp, %ebp              /* the round */
        movl    $FIRST, %esi
clear:  movl    $0, (%esi)
        movl    %esi, 4(%esi)
        addl    $4096, %esi
        cmpl    $LAST, %esi
        jb      clear

round:  movl    $FIRST, %esi
page:   cmpl    %ebp, (%esi)
        jne     lost
        cmpl    %esi, 4(%esi)
        jne     lost
        incl    (%esi)
        addl    $4096, %esi
        cmpl    $LAST, %esi
        jb      page
        incl    %ebp
        cmpl    $KEPT, %edi
        jne     lost
        movb    $'B', %al
        call    say
        jmp     round

lost:   movb    $'X', %al
        call    say
        jmp     lost

say:    call    put                     /* AL, then EBP */
        movl    $8, %ecx
1:      roll    $4, %ebp
        movl    %ebp, %eax
        andl    $15, %eax
        movb    digits(%eax), %al
        call    put
        loop    1b
        movb    $'\n', %al
put:    movb    %al, %bl
        movw    $0x3fd, %dx
1:      inb     %dx, %al
        testb   $0x20, %al
        jz      1b
        movw    $0x3f8, %dx
        movb    %bl, %al
        outb    %al, %dx
        ret

digits: .ascii  "0123456789abcdef"
        .balign 8
gdt:    .quad   0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
        .word   gdt_pointer - gdt - 1
        .long   gdt

        .org    0xfff0
        .code16
        ljmp    $0xf000, $0             /* where the processor begins */
        .org    0x10000
