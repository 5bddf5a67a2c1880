vim9script noclear
# Jobs that outlive the editor: the commands.

if exists('g:loaded_jobbroker') || !has('channel') || !has('timers')
  finish
endif
g:loaded_jobbroker = true

import autoload '../autoload/jobbroker.vim' as api

command -nargs=* -complete=shellcmd Job api.Run(<q-args>)
command -nargs=* -complete=file JobMake api.Make(<q-args>)
command -bang Jobs api.List(<bang>false)
command -nargs=? -complete=custom,api.Complete JobOutput api.Output(<q-args>)
command -nargs=? -complete=custom,api.Complete JobCancel api.Cancel(<q-args>)
command -nargs=? -complete=custom,api.Complete JobRerun api.Rerun(<q-args>)
command -nargs=? -complete=custom,api.Complete JobErrors api.Errors(<q-args>)

# For 'statusline': %{JobsStatusline()}
def g:JobsStatusline(): string
  return api.Statusline()
enddef
