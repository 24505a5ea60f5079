"""The wire: vocabulary, Arrow schemas, codec, adapter manifest and the errors that cross a process.

Every other package may import this one; it imports nothing of ours and only numpy and pyarrow.
"""
