/*
 * The entry of the test guest and its interrupt stubs: 32-bit protected mode, flat segments, no
 * paging, as the x86/HVM direct boot ABI ("PVH") hands over the machine.
 */
    .section .note.pvh, "a", @note
    .long 4, 4, 18                      /* name size, value size, XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long entry

    .code32
    .section .text.entry, "ax"
    .globl entry
entry:
    cli
    cld
    movl $stack_top, %esp
    lgdt gdt_pointer
    ljmp $8, $1f
1:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $bss_start, %edi
    movl $bss_end, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    pushl %ebx                          /* physical address of struct hvm_start_info */
    call guest_main
2:  cli
    hlt
    jmp 2b

/*
 * Every vector pushes its number and joins here; guest_interrupt(vector) does the rest. KVM's
 * instruction emulator, which is all a software KVM has, knows IRET in real mode only: so the frame
 * (EIP, CS, EFLAGS) is turned round to be left with POPF and a far return.
 */
    .text
join:
    pushal
    pushl 32(%esp)
    call guest_interrupt
    addl $4, %esp
    movl 36(%esp), %eax                 /* EIP */
    movl 40(%esp), %ecx                 /* CS */
    movl 44(%esp), %edx                 /* EFLAGS */
    movl %edx, 36(%esp)
    movl %eax, 40(%esp)
    movl %ecx, 44(%esp)
    popal
    addl $4, %esp
    popfl
    lretl

    .balign 16
    .globl stubs
stubs:
    .set vector, 0
    .rept 48
    .balign 16
    pushl $vector
    jmp join
    .set vector, vector + 1
    .endr

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            /* 0x08: code, base 0, limit 4 GiB */
    .quad 0x00cf93000000ffff            /* 0x10: data, base 0, limit 4 GiB */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt

    .bss
    .balign 16
    .skip 16384
stack_top:
