# bash completion of coracle. For an alias: complete -F _coracle -o nospace docker
_coracle() {
    local line=${COMP_LINE:0:COMP_POINT} candidate
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        if [[ $candidate == :files ]]; then
            compopt -o default -o filenames 2>/dev/null
            local begun=${COMP_WORDS[COMP_CWORD]}
            [[ $begun == [:=] ]] && begun=
            local file
            while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -- "$begun")
        elif [[ $candidate == *[:=,] ]]; then
            COMPREPLY+=("$candidate")
        else
            COMPREPLY+=("$candidate ")
        fi
    done < <(CORACLE_COMPLETE=1 command coracle __complete line "$line" 2>/dev/null)
}
complete -F _coracle -o nospace coracle
if [[ ${BASH_ALIASES[docker]:-} == coracle* ]] || ! type -t docker >/dev/null; then
    complete -F _coracle -o nospace docker
fi
