-- Uploads of 1 MiB, for wrk.
wrk.method = "POST"
wrk.body = string.rep("x", 1024 * 1024)
