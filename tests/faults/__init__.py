"""What happens when things break, proven on what clients saw.

Clients work on a real server while a test breaks something. A `History` records what each client
sent and what it was answered; when all is well again it is compared with what the service has
stored. What it must find: everything acknowledged is there, and nothing is there twice.
"""
