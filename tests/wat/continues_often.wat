;; Calls proxy_continue_stream two hundred times while the stream is not paused, and then does ACT.
(module
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_send_local_response"
    (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_header_map_pairs" (func $set (param i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "refused")
  ;; A valid header and an invalid one.
  (data (i32.const 64) "\02\00\00\00\0d\00\00\00\01\00\00\00\08\00\00\00\01\00\00\00x-weir-target\00v\00bad name\00x\00")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) i32.const 1)
  (func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 1)
  (func $refuse
    (drop (call $reply (i32.const 403)
      (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 7) (i32.const 0) (i32.const 0) (i32.const -1))))
  (func $spoil
    (drop (call $set (i32.const 0) (i32.const 64) (i32.const 47))))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $times i32)
    (loop $again
      (drop (call $continue (i32.const 0)))
      (local.set $times (i32.add (local.get $times) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $times) (i32.const 200))))
    ACT
    i32.const 0))
