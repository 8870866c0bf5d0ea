"""Real traffic under real crashes, held against a truth that knows nothing of the program's parser.

`traffic` makes messages and says what each of them is; `killer` ends parts of a running deployment; `check`
holds what is stored against the truth; `run` puts them together; `soak` is the same without the killing.
"""
