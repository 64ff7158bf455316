module weir/benches/kinesis/load

go 1.22
