"""What tests share: rows, servers, processes and clients. No test and no fixture lives here."""
